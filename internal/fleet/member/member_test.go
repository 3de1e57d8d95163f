package member_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
	"github.com/missionopsai/foundry/internal/problem"
)

type note struct {
	Text string `json:"text"`
}

const canary = "canary-7b1f0e5c9a2d4863"

func put(t *testing.T, m *member.Member, path, text string) {
	t.Helper()
	if _, err := m.Store().Put(context.Background(), path, note{text}); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, m *member.Member, path string) string {
	t.Helper()
	e, err := m.Store().Get(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	var n note
	if err := e.Decode(&n); err != nil {
		t.Fatal(err)
	}
	return n.Text
}

func lead(t *testing.T, m *member.Member) *member.Term {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), membertest.Patience)
	defer cancel()
	term, err := m.Lead(ctx, "leader")
	if err != nil {
		t.Fatal(err)
	}
	return term
}

func code(err error) string {
	if err == nil {
		return ""
	}
	return problem.From(err).Code
}

func TestAFleetOfOneKeepsValuesAndItsEpochRisesOverRestarts(t *testing.T) {
	f := membertest.StartWith(t, 1, func(_ int, o *member.Options) { o.Listen = member.Addresses{} })
	put(t, f.Members[0], "plan", "in force")
	term := lead(t, f.Members[0])
	if _, err := term.Put(context.Background(), "verdicts/node1", note{"fine"}); err != nil {
		t.Fatal(err)
	}
	f.Stop(t, 0)
	m := f.Restart(t, 0)
	if got := read(t, m, "plan"); got != "in force" {
		t.Fatalf("read %q", got)
	}
	if again := lead(t, m); again.Epoch() <= term.Epoch() {
		t.Fatalf("epoch %d after %d", again.Epoch(), term.Epoch())
	}
}

func TestAFleetOfOneWithoutADoorInvitesNobody(t *testing.T) {
	f := membertest.StartWith(t, 1, func(_ int, o *member.Options) { o.Listen = member.Addresses{} })
	_, _, err := f.Members[0].Invite(context.Background(), "person:test", "node2", []member.Role{member.Fleet})
	if code(err) != "fleet-no-door" {
		t.Fatalf("got %v", err)
	}
}

func TestNothingThatIsPutLiesOpenOnTheDisk(t *testing.T) {
	f := membertest.Start(t, 1)
	put(t, f.Members[0], "survivors/node1/pepper", canary)
	if _, err := f.Members[0].Snapshot(context.Background()); err != nil {
		t.Fatal(err)
	}
	token, _, err := f.Members[0].Invite(context.Background(), "person:test", "node2", []member.Role{member.Witness})
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.TrimPrefix(token, "fdn_")[10:42]
	f.Stop(t, 0)
	seen := 0
	walk(t, f.Options[0].Dir, func(path string, body []byte) {
		seen++
		for what, needle := range map[string]string{"the value": canary, "the secret of an invitation": secret, "a private key": "PRIVATE KEY", "an age identity": "AGE-SECRET-KEY"} {
			if bytes.Contains(body, []byte(needle)) {
				t.Errorf("%s lies open in %s", what, path)
			}
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v %v", path, err, info.Mode())
		}
	})
	if seen < 8 {
		t.Fatalf("only %d files were searched", seen)
	}
}

func walk(t *testing.T, dir string, look func(path string, body []byte)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		if err == nil {
			look(path, body)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAValueThatWasMovedToAnotherPathDoesNotOpen(t *testing.T) {
	f := membertest.Start(t, 1)
	m, ctx := f.Members[0], context.Background()
	put(t, m, "nodes-of-mine", "a")
	raw, err := m.Client().Get(ctx, member.Prefix+"nodes-of-mine")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Client().Put(ctx, member.Prefix+"elsewhere", string(raw.Kvs[0].Value)); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Store().Get(ctx, "elsewhere"); code(err) != "fleet-value-unreadable" {
		t.Fatalf("got %v", err)
	}
}

// What a younger version wrote, an older one does not lose.
func TestFieldsThatAnOlderMemberDoesNotKnowSurviveItsRewrite(t *testing.T) {
	f := membertest.Start(t, 1)
	s, ctx := f.Members[0].Store(), context.Background()
	type inner struct {
		A string `json:"a,omitempty"`
	}
	type old struct {
		Kept  string `json:"kept"`
		Gone  string `json:"gone,omitempty"`
		Inner inner  `json:"inner"`
	}
	young := map[string]any{"kept": "x", "gone": "soon", "added": []int{1, 2}, "inner": map[string]any{"a": "1", "b": "2"}}
	if _, err := s.Put(ctx, "thing", young); err != nil {
		t.Fatal(err)
	}
	var v old
	if _, err := s.Update(ctx, "thing", &v, func() error { v.Kept, v.Gone, v.Inner.A = "y", "", "3"; return nil }); err != nil {
		t.Fatal(err)
	}
	e, err := s.Get(ctx, "thing")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]any{}
	if err := e.Decode(&got); err != nil {
		t.Fatal(err)
	}
	in := got["inner"].(map[string]any)
	if got["kept"] != "y" || got["gone"] != nil || got["added"] == nil || in["a"] != "3" || in["b"] != "2" {
		t.Fatalf("got %v", got)
	}
}

func TestOnlyOneLeadsAndAnOldTermWritesNothing(t *testing.T) {
	f := membertest.Start(t, 3)
	ctx := context.Background()
	first := lead(t, f.Members[0])
	terms := make(chan *member.Term, 2)
	for _, m := range f.Members[1:] {
		go func() {
			if term, err := m.Lead(ctx, "leader"); err == nil {
				terms <- term
			}
		}()
	}
	if _, err := first.Put(ctx, "verdicts/a", note{"by the first"}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-terms:
		t.Fatal("two lead at once")
	default:
	}
	f.Kill(t, 0)
	second := <-terms
	if second.Epoch() <= first.Epoch() {
		t.Fatalf("epoch %d after %d", second.Epoch(), first.Epoch())
	}
	if _, err := second.Put(ctx, "verdicts/a", note{"by the second"}); err != nil {
		t.Fatal(err)
	}
	// The old term's writes are refused by the fleet, whatever its node believes.
	if _, err := f.Members[1].Store().Put(ctx, "verdicts/a", note{"late"}, member.During(first)); !errors.Is(err, member.ErrNotLeader) {
		t.Fatalf("got %v", err)
	}
	if got := read(t, f.Members[2], "verdicts/a"); got != "by the second" {
		t.Fatalf("read %q", got)
	}
}

func TestLosingAMinorityIsSaidAndEverythingGoesOn(t *testing.T) {
	f := membertest.Start(t, 3)
	leader := f.Leader(t)
	f.Kill(t, leader)
	m := f.Members[(leader+1)%3]
	membertest.Await(t, "the survivors decide", func(ctx context.Context) bool {
		one, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := m.Store().Put(one, "verdicts/x", note{"after"})
		return err == nil
	})
	s := m.Status(context.Background())
	if !s.Majority || s.Answer != 2 || s.Survives != 0 || !strings.Contains(s.Words, "1 of 3 members do not answer") || !strings.Contains(s.Words, "none may be lost now") {
		t.Fatalf("%+v: %s", s, s.Words)
	}
	f.Restart(t, leader)
	membertest.Await(t, "it has caught up", func(ctx context.Context) bool {
		e, err := f.Members[leader].Store().GetLocal(ctx, "verdicts/x")
		return err == nil && e.Revision > 0 && f.Members[leader].Status(ctx).Answer == 3
	})
}

func TestLosingTheMajorityIsSaidInWordsAndOldValuesCanStillBeRead(t *testing.T) {
	f := membertest.Start(t, 3)
	put(t, f.Members[0], "verdicts/x", "last known")
	membertest.Await(t, "all have it", func(ctx context.Context) bool {
		_, err := f.Members[2].Store().GetLocal(ctx, "verdicts/x")
		return err == nil
	})
	f.Kill(t, 0)
	f.Kill(t, 1)
	m, ctx := f.Members[2], context.Background()
	var s member.Status
	membertest.Await(t, "the loss is noticed", func(ctx context.Context) bool {
		s = m.Status(ctx)
		return !s.Majority
	})
	if !strings.Contains(s.Words, "2 of 3 members do not answer; nothing can be decided until one is back") || !strings.Contains(s.Words, "foundry node recover") {
		t.Fatalf("said %q", s.Words)
	}
	if e, err := m.Store().GetLocal(ctx, "verdicts/x"); err != nil || e.Revision == 0 {
		t.Fatalf("the last known state cannot be read: %v", err)
	}
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := m.Store().Put(short, "verdicts/x", note{"alone"}); !errors.Is(err, member.ErrNoMajority) {
		t.Fatalf("a minority decided: %v", err)
	}
	f.Kill(t, 2)
	f.Options[2].Patience = time.Second
	f.Restart(t, 2) // comes up without a majority too
	if s := f.Members[2].Status(ctx); s.Majority || s.Voters != 3 {
		t.Fatalf("%+v", s)
	}
	f.Restart(t, 1)
	membertest.Await(t, "the majority is back", func(ctx context.Context) bool { return f.Members[2].Status(ctx).Majority })
}

func TestAnInvitationIsUsedOnceByItsNameInItsTime(t *testing.T) {
	var mu sync.Mutex
	var told []member.Act
	now := time.Now()
	f := membertest.StartWith(t, 1, func(_ int, o *member.Options) {
		o.Note = func(a member.Act) { mu.Lock(); told = append(told, a); mu.Unlock() }
		o.Clock = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	})
	m, ctx := f.Members[0], context.Background()
	invite := func(name string) (string, member.Invitation) {
		t.Helper()
		token, i, err := m.Invite(ctx, "person:test", name, []member.Role{member.Gateway})
		if err != nil {
			t.Fatal(err)
		}
		return token, i
	}
	join := func(name, token string) error {
		_, err := member.Join(ctx, membertest.Options(t, name, member.Gateway), token)
		return err
	}
	refused := func(what string, err error, why string) {
		t.Helper()
		if code(err) != "invitation-refused" {
			t.Errorf("%s: %v", what, err)
		}
		mu.Lock()
		defer mu.Unlock()
		last := told[len(told)-1]
		if !last.Denied || last.Act != "node.join" || last.Details["why"] != why {
			t.Errorf("%s: told %+v", what, last)
		}
	}
	token, _ := invite("node2")
	if err := join("node2", token); err != nil {
		t.Fatal(err)
	}
	refused("a second use", join("node2", token), "used")

	token, i := invite("node3")
	if err := m.Revoke(ctx, "person:test", i.Selector); err != nil {
		t.Fatal(err)
	}
	refused("a revoked one", join("node3", token), "revoked")

	token, _ = invite("node4")
	if err := join("node5", token); code(err) != "node-name-other" {
		t.Errorf("another name: %v", err)
	}
	mu.Lock()
	now = now.Add(time.Hour)
	mu.Unlock()
	refused("an expired one", join("node4", token), "expired")

	if _, _, err := m.Invite(ctx, "person:test", "node2", []member.Role{member.Gateway}); code(err) != "node-name-taken" {
		t.Errorf("a name that is taken: %v", err)
	}
	if err := m.Revoke(ctx, "person:test", "aaaaaaaaaa"); code(err) != "invitation-unknown" {
		t.Errorf("revoking nothing: %v", err)
	}
	all, err := m.Invitations(ctx)
	if err != nil || len(all) != 3 {
		t.Fatalf("%v %v", all, err)
	}
	for _, i := range all {
		if i.Hash != "" {
			t.Error("a hash is shown")
		}
		if i.Name == "node2" && i.Refused != 1 {
			t.Errorf("the second use was counted %d times", i.Refused)
		}
	}
	acts, err := m.Acts(ctx, 0)
	if err != nil || len(acts) != len(told) {
		t.Fatalf("%d acts of %d, %v", len(acts), len(told), err)
	}
}

func TestTwoNodesThatUseOneInvitationAtOnceDoNotBothJoin(t *testing.T) {
	f := membertest.Start(t, 1)
	token, _, err := f.Members[0].Invite(context.Background(), "person:test", "node2", []member.Role{member.Gateway})
	if err != nil {
		t.Fatal(err)
	}
	var joining sync.WaitGroup
	results := make([]error, 3)
	for i := range results {
		o := membertest.Options(t, "node2", member.Gateway)
		joining.Go(func() { _, results[i] = member.Join(context.Background(), o, token) })
	}
	joining.Wait()
	joined := 0
	for _, err := range results {
		if err == nil {
			joined++
		}
	}
	if joined != 1 {
		t.Fatalf("%d joined: %v", joined, results)
	}
}

func TestWhoStandsInBetweenIsNotSentTheInvitation(t *testing.T) {
	real := membertest.Start(t, 1)
	token, _, err := real.Members[0].Invite(context.Background(), "person:test", "node2", []member.Role{member.Gateway})
	if err != nil {
		t.Fatal(err)
	}
	// Another fleet answers at the address of the first.
	address := real.Options[0].Listen.Join
	real.Stop(t, 0)
	membertest.StartWith(t, 1, func(_ int, o *member.Options) { o.Listen.Join = address })
	_, err = member.Join(context.Background(), membertest.Options(t, "node2", member.Gateway), token)
	if code(err) != "fleet-unreachable" && code(err) != "fleet-fingerprint" {
		t.Fatalf("got %v", err)
	}
}

func TestANodeThatDoesNotVoteWorksOnTheSameStoreAndMayNotChangeTheMembership(t *testing.T) {
	f := membertest.Start(t, 1)
	ctx := context.Background()
	o := membertest.Options(t, "gw1", member.Gateway)
	f.Join(t, 0, o)
	gw, err := member.Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	defer gw.Stop(ctx)
	put(t, f.Members[0], "plan", "v1")
	if got := read(t, gw, "plan"); got != "v1" {
		t.Fatalf("read %q", got)
	}
	watched := gw.Store().Watch(ctx, "seen/", 0)
	put(t, gw, "plan", "v2")
	membertest.Await(t, "the change is seen", func(context.Context) bool {
		put(t, f.Members[0], "seen/node1/gw1/https", "up")
		select {
		case e := <-watched:
			return e.Err == nil && e.Path == "seen/node1/gw1/https"
		default:
			return false
		}
	})
	term := lead(t, gw)
	if _, err := term.Put(ctx, "verdicts/x", note{"by a gateway"}); err != nil {
		t.Fatal(err)
	}
	if _, err := gw.Client().MemberAdd(ctx, []string{"https://127.0.0.1:9"}); err == nil {
		t.Fatal("a gateway changed the membership")
	}
	if _, err := gw.Client().Snapshot(ctx); err == nil {
		if _, err = gw.Snapshot(ctx); err == nil {
			t.Fatal("a gateway took the store along")
		}
	}
	if s := gw.Status(ctx); !s.Majority || len(s.Nodes) != 2 || s.Voters != 1 {
		t.Fatalf("%+v", s)
	}
}

func TestARemovedNodeIsRefusedEverywhere(t *testing.T) {
	faultsOnly(t)
	f := membertest.Start(t, 3)
	ctx := context.Background()
	o := membertest.Options(t, "gw1", member.Gateway)
	f.Join(t, 0, o)
	gw, err := member.Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	defer gw.Stop(ctx)
	membertest.Await(t, "the gateway is there", func(ctx context.Context) bool {
		_, err := f.Members[0].Store().Get(ctx, "leases/gw1")
		return err == nil
	})
	if err := f.Members[0].Remove(ctx, "person:test", "gw1"); err != nil {
		t.Fatal(err)
	}
	membertest.Await(t, "the gateway is shut out", func(ctx context.Context) bool {
		one, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := gw.Client().Get(one, member.Prefix+"plan")
		return err != nil
	})
	f.Await(t, "node3 can be removed", func(ctx context.Context) bool { return f.Members[0].Remove(ctx, "person:test", "node3") == nil })
	select {
	case <-f.Members[2].Done():
	case <-time.After(membertest.Patience):
		t.Fatal("the removed member goes on")
	}
	f.Stop(t, 2)
	// Whether it has heard of its removal before it stopped, or not: it decides
	// nothing, and nobody answers it.
	if back, err := member.Start(ctx, f.Options[2]); err == nil {
		defer back.Abandon()
		one, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if _, err := back.Store().Put(one, "plan", note{"by a removed member"}); err == nil {
			t.Fatal("the removed member came back")
		}
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: gw.ClientTLS("node1")}}
	if r, err := client.Get("https://" + f.Options[0].Listen.Peers + "/version"); err == nil {
		r.Body.Close()
		t.Fatal("the door for peers is open to it")
	}
	if err := f.Members[0].Remove(ctx, "person:test", "node1"); code(err) != "node-removes-itself" {
		t.Fatalf("got %v", err)
	}
	if err := f.Members[0].Remove(ctx, "person:test", "node3"); code(err) != "node-unknown" {
		t.Fatalf("got %v", err)
	}
}

func TestADrainedNodeLeadsNothing(t *testing.T) {
	f := membertest.Start(t, 3)
	ctx := context.Background()
	i := f.Leader(t)
	term := lead(t, f.Members[i])
	if err := f.Members[(i+1)%3].Drain(ctx, "person:test", f.Options[i].Name, true); err != nil {
		t.Fatal(err)
	}
	select {
	case <-term.Done():
	case <-time.After(membertest.Patience):
		t.Fatal("it goes on leading")
	}
	f.Await(t, "the store is led by another", func(context.Context) bool { return f.Leader(t) != i })
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := f.Members[i].Lead(short, "leader"); err == nil {
		t.Fatal("it was made leader again")
	}
	if err := f.Members[i].Drain(ctx, "person:test", f.Options[i].Name, false); err != nil {
		t.Fatal(err)
	}
	if again := lead(t, f.Members[i]); again.Epoch() <= term.Epoch() {
		t.Fatal("the epoch went back")
	}
}
