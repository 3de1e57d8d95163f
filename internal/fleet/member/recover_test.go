package member_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
)

func TestAFleetIsRecoveredFromASnapshotAndItsEpochNeverGoesBack(t *testing.T) {
	faultsOnly(t)
	for _, from := range []string{"a snapshot", "its data"} {
		t.Run("from "+from, func(t *testing.T) {
			f := membertest.Start(t, 3)
			ctx := context.Background()
			survivor := f.Members[2]
			put(t, f.Members[0], "verdicts/x", "before")
			membertest.Await(t, "the survivor has it", func(ctx context.Context) bool {
				_, err := survivor.Store().GetLocal(ctx, "verdicts/x")
				return err == nil
			})
			shot, err := survivor.Snapshot(ctx)
			if err != nil {
				t.Fatal(err)
			}
			term := lead(t, f.Members[0]) // an epoch that the snapshot does not know
			o := f.Options[2]
			f.Kill(t, 2)
			if _, err := member.Recover(ctx, o, member.Recovery{FromData: true}); code(err) != "fleet-alive" {
				t.Fatalf("recovered beside a majority: %v", err)
			}
			f.Kill(t, 0)
			f.Kill(t, 1)
			way := member.Recovery{FromData: true}
			if from == "a snapshot" {
				way = member.Recovery{Snapshot: shot}
			}
			r, err := member.Recover(ctx, o, way)
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(r.Lost)
			if r.Revision <= term.Epoch() || !slices.Equal(r.Lost, []string{"node1", "node2"}) {
				t.Fatalf("%+v after epoch %d", r, term.Epoch())
			}
			m := f.Restart(t, 2)
			if got := read(t, m, "verdicts/x"); got != "before" {
				t.Fatalf("read %q", got)
			}
			again := lead(t, m)
			if again.Epoch() <= r.Revision {
				t.Fatalf("epoch %d is not above %d", again.Epoch(), r.Revision)
			}
			membertest.Await(t, "the lost are off the list", func(ctx context.Context) bool {
				nodes, err := m.Nodes(ctx)
				return err == nil && len(nodes) == 1
			})
			membertest.Await(t, "the recovery is among the acts", func(ctx context.Context) bool {
				acts, err := m.Acts(ctx, 0)
				return err == nil && len(acts) > 0 && acts[len(acts)-1].Act == "node.recover"
			})
			// A lost member that comes back is not taken in, and decides nothing.
			old := f.Options[0]
			old.Patience = 500 * time.Millisecond
			if back, err := member.Start(ctx, old); err == nil {
				defer back.Abandon()
				if s := back.Status(ctx); s.Majority {
					t.Fatalf("a lost member decides: %+v", s)
				}
			}
			// The recovered fleet grows again.
			fresh := membertest.Options(t, "node4", member.Fleet)
			f.Join(t, 2, fresh)
			joined, err := member.Start(ctx, fresh)
			if err != nil {
				t.Fatal(err)
			}
			defer joined.Abandon()
			membertest.Await(t, "the new member votes", func(ctx context.Context) bool { return joined.Status(ctx).Answer == 2 })
		})
	}
}

func TestWhatIsNoSnapshotIsRefusedAndNothingIsChanged(t *testing.T) {
	f := membertest.Start(t, 1)
	put(t, f.Members[0], "plan", "in force")
	f.Stop(t, 0)
	o := f.Options[0]
	for _, c := range []struct {
		name string
		way  member.Recovery
		code string
	}{
		{"neither", member.Recovery{}, "recover-from"},
		{"both", member.Recovery{Snapshot: "x", FromData: true}, "recover-from"},
		{"a file that is none", member.Recovery{Snapshot: o.Dir + "/fleet.json"}, "snapshot-unreadable"},
		{"a file that is not there", member.Recovery{Snapshot: o.Dir + "/nothing"}, "snapshot-unreadable"},
	} {
		if _, err := member.Recover(context.Background(), o, c.way); code(err) != c.code {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if got := read(t, f.Restart(t, 0), "plan"); got != "in force" {
		t.Fatalf("read %q", got)
	}
}

func TestANodeThatWasAwayForTooLongIsToldThatItsCertificateRanOut(t *testing.T) {
	f := membertest.Start(t, 1)
	o := membertest.Options(t, "gw1", member.Gateway)
	f.Join(t, 0, o)
	o.Clock = func() time.Time { return time.Now().Add(91 * 24 * time.Hour) }
	_, err := member.Start(context.Background(), o)
	if code(err) != "node-certificate-expired" || !strings.Contains(err.Error(), "invite it again") {
		t.Fatalf("got %v", err)
	}
	// Whoever holds the authority's key signs a new one for itself.
	f.Stop(t, 0)
	f.Options[0].Clock = o.Clock
	m := f.Restart(t, 0)
	if until := m.Status(context.Background()).Expires; until.Before(o.Clock().Add(89 * 24 * time.Hour)) {
		t.Fatalf("until %s", until)
	}
}

func TestTwoSchemasApartIsRefusedAndOneApartIsNot(t *testing.T) {
	f := membertest.StartWith(t, 1, func(_ int, o *member.Options) { o.Schema = 5 })
	for schema, want := range map[int]string{3: "fleet-version", 4: "", 6: "", 7: "fleet-version"} {
		o := membertest.Options(t, "gw"+string(rune('0'+schema)), member.Gateway)
		o.Schema = schema
		token, _, err := f.Members[0].Invite(context.Background(), "person:test", o.Name, o.Roles)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := member.Join(context.Background(), o, token); code(err) != want {
			t.Errorf("schema %d: %v", schema, err)
		}
	}
}
