package incident

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
	"github.com/missionopsai/foundry/internal/incident/clock"
	"github.com/missionopsai/foundry/internal/principal"
)

// lossOf is what the fleet holds of a node that three observers lost.
func lossOf(subject string, since time.Time) verdict.Verdict {
	v := verdict.Verdict{Subject: subject, State: verdict.Lost, Since: since, Decided: since.Add(30 * time.Second), Words: "two of two do not reach it", Quorum: 2, Epoch: 7}
	for _, o := range []struct{ who, signal string }{{"node-2", "https"}, {"node-2", "https"}, {"witness", "ssh"}} {
		v.For = append(v.For, verdict.Observation{Observer: o.who, Subject: subject, Signal: o.signal, Code: "timeout", Since: since, Heard: since.Add(time.Second)})
	}
	return v
}

func kinds(t *Timeline) (out []string) {
	for _, e := range t.Entries {
		out = append(out, string(e.Kind))
	}
	return out
}

func TestALossOpensOneIncidentWhoeverAsksAndItsEndClosesNothing(t *testing.T) {
	ctx := t.Context()
	f := membertest.Start(t, 1)
	b := bookOf(f.Members[0])
	now := start
	b.Clock = func() time.Time { return now }
	held := []verdict.Verdict{lossOf("node/node-1", start.Add(-time.Minute))}
	opened, err := b.Ruled(ctx, nil, held)
	if err != nil || len(opened) != 1 {
		t.Fatalf("opened %v: %v", opened, err)
	}
	for range 3 { // again, by this leader and the next
		if again, err := b.Ruled(ctx, nil, held); err != nil || len(again) != 0 {
			t.Fatalf("opened again: %v, %v", again, err)
		}
	}
	one, err := b.load(ctx, opened[0])
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(kinds(one)); got != "[opened signal signal fact act]" {
		t.Errorf("the timeline has %s", got)
	}
	if s := one.State; s.Known(clock.Confirmed, "") == nil || len(s.Rules) != 0 || !strings.Contains(Describe(one.Entries[0]), "node-1") || !slices.Equal(s.Scope.Nodes, []string{"node-1"}) {
		t.Errorf("the incident is %+v", s)
	}
	now = now.Add(time.Minute)
	if _, err := b.Ruled(ctx, nil, []verdict.Verdict{{Subject: "node/node-1", State: verdict.Unknown, Since: now}}); err != nil {
		t.Fatal(err)
	}
	back := []verdict.Verdict{{Subject: "node/node-1", State: verdict.Fine, Since: now}}
	for range 2 {
		if _, err := b.Ruled(ctx, nil, back); err != nil {
			t.Fatal(err)
		}
	}
	one, err = b.load(ctx, opened[0])
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(kinds(one)[5:]); got != "[signal act]" || !one.State.ClosedAt.IsZero() {
		t.Errorf("its end wrote %s, closed %v", got, one.State.ClosedAt)
	}
	// it goes again: the same incident, a second loss
	now = now.Add(time.Minute)
	if again, err := b.Ruled(ctx, nil, []verdict.Verdict{lossOf("node/node-1", now)}); err != nil || len(again) != 0 {
		t.Errorf("opened %v for the same node: %v", again, err)
	}
	if err := b.Interlock(ctx, "node-1"); err != nil {
		t.Errorf("an outage forbids what it need not: %v", err)
	}
}

func TestANoticeIsSentAgainUnderTheSameIDWhenItsSenderDied(t *testing.T) {
	ctx := t.Context()
	f := membertest.Start(t, 1)
	b := bookOf(f.Members[0])
	now := start
	b.Clock = func() time.Time { return now }
	o := opened()
	o.Started, o.Detected = start, start
	one, err := b.Open(ctx, anna, o)
	if err != nil {
		t.Fatal(err)
	}
	id := one.State.ID
	for _, x := range []Body{
		&Notice{ID: "n1", Step: Drafted, Audience: ToClient, To: "acme", Fields: map[string]string{"nature": "a", "data-affected": "b", "remediation": "c", "contact": "d"}},
		&Notice{ID: "n1", Step: Released},
	} {
		if _, _, err := b.Append(ctx, anna, id, x); err != nil {
			t.Fatal(err)
		}
	}
	var ids []string
	answer := func() (Posted, error) { return Posted{Step: SentOff}, nil } // the process dies with the answer
	leader := func() *Post {
		return &Post{Book: b, Log: slog.New(slog.DiscardHandler), Send: func(_ context.Context, id string, _ *State, n *Sent) (Posted, error) {
			ids = append(ids, id)
			return answer()
		}}
	}
	notice := func() Sent {
		t.Helper()
		got, err := b.load(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		return got.State.Notices[0]
	}
	tick := func(want int, unclear bool, step Step) {
		t.Helper()
		if err := leader().Tick(ctx); err != nil {
			t.Fatal(err)
		}
		if n := notice(); len(ids) != want || n.Unclear != unclear || n.Step != step {
			t.Fatalf("sent %d times, notice %s, indeterminate %v; want %d, %s, %v", len(ids), n.Step, n.Unclear, want, step, unclear)
		}
	}
	tick(1, true, SentOff)
	tick(1, true, SentOff) // it may be under way still
	now = now.Add(2 * time.Minute)
	answer = func() (Posted, error) { return Posted{}, errors.New("the relay is away") }
	tick(2, true, Failed) // not taken now, and nobody knows of the first
	tick(2, true, Failed)
	now = now.Add(time.Hour)
	answer = func() (Posted, error) {
		return Posted{Step: Accepted, Channel: "mail", Receipt: "relay: accepted 250 queued as 4711"}, nil
	}
	tick(3, false, Accepted)
	now = now.Add(time.Hour)
	tick(3, false, Accepted)
	if ids[0] != ids[1] || ids[1] != ids[2] {
		t.Errorf("the attempts have different ids: %v", ids)
	}
	got, err := b.load(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if fact := got.State.Known(clock.Told, "acme"); fact == nil || !fact.Ends() || !strings.Contains(notice().Receipt, "4711") {
		t.Errorf("told: %v", fact)
	}
}

func TestAfterThreeDoubtsANoticeWaitsForPeople(t *testing.T) {
	p := &Post{Book: &Book{Clock: func() time.Time { return start }}}
	for doubts, due := range map[int]bool{0: true, 1: true, 2: false} {
		if got := p.due(&Sent{Notice: Notice{Step: SentOff}, Released: true, Unclear: true, Doubts: doubts, LastAt: start.Add(-time.Hour)}); got != due {
			t.Errorf("after %d doubts it is due: %v", doubts, got)
		}
	}
	if p.due(&Sent{Notice: Notice{Step: SentOff}}) {
		t.Error("what nobody released is sent")
	}
}

func TestOfTwoWhoSendOneSends(t *testing.T) {
	x := outage(t, 1)
	x.do(&Notice{ID: "n", Step: Drafted, Audience: ToPerson, To: "board", Fields: map[string]string{"nature": "a"}}, &Notice{ID: "n", Step: Released}, &Notice{ID: "n", Step: SentOff, Try: 1})
	x.refused("incident-notice-tried", &Notice{ID: "n", Step: SentOff, Try: 1})
	x.refused("incident-notice-released", &Notice{ID: "n", Step: Released})
}

func TestWhereThePlanAsksForTwoNobodySendsANoticeAlone(t *testing.T) {
	x := outage(t, 2)
	x.do(&Notice{ID: "n", Step: Drafted, Audience: ToPerson, To: "board", Fields: map[string]string{"nature": "a"}})
	x.refused("incident-notice-unapproved", &Notice{ID: "n", Step: Released})
	x.approved("notice", "n", anna)
	x.refused("incident-notice-unapproved", &Notice{ID: "n", Step: Released})
	x.approved("notice", "n", anna, bert)
	x.do(&Notice{ID: "n", Step: Released})
}

func TestAWrongApproverIsRefusedAndStandsInTheTimeline(t *testing.T) {
	ctx := t.Context()
	f := membertest.Start(t, 1)
	b := bookOf(f.Members[0])
	w := &Window{Book: b}
	o := opened()
	o.Approvals = 2
	one, err := b.Open(ctx, anna, o)
	if err != nil {
		t.Fatal(err)
	}
	id := one.State.ID
	write := func(p principal.Principal, kind Kind, body string) error {
		_, _, err := w.Write(ctx, p, id, kind, json.RawMessage(body))
		return err
	}
	if err := write(anna, KindDecision, `{"about":"wipe","target":"node-1","words":"It is captured."}`); err != nil {
		t.Fatal(err)
	}
	if err := write(anna, KindApproval, `{"of":2,"approve":true}`); err != nil {
		t.Fatal(err)
	}
	for p, code := range map[principal.Principal]string{anna: "incident-approved-twice", root: "incident-approver-unknown"} {
		if err := write(p, KindApproval, `{"of":2,"approve":true}`); codeOf(err) != code {
			t.Errorf("%s: %v", p, err)
		}
	}
	got, err := w.Timeline(ctx, anna, Latest)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, e := range got.Entries {
		if a, ok := e.Read().(*Act); ok && a.Act == "incident.approval-refused" {
			refused++
		}
	}
	if refused != 2 || got.State.Approved("wipe", "node-1") {
		t.Errorf("%d refusals in the timeline, approved %v", refused, got.State.Approved("wipe", "node-1"))
	}
	for body, kind := range map[string]Kind{`{"n":1}`: KindAnchor, `{"event":"told","clock":"rto/web"}`: KindClock, `{"title":"x"}`: KindOpened, `{"word":"typo"}`: KindNote} {
		if err := write(anna, kind, body); codeOf(err) != "incident-entry" {
			t.Errorf("%s %s: %v", kind, body, err)
		}
	}
}

func TestKeptEvidenceIsReadAgainAndAFlippedByteIsFound(t *testing.T) {
	seal := func(plain, with []byte) ([]byte, error) { return append(append([]byte{}, with...), plain...), nil }
	open := func(sealed, with []byte) ([]byte, error) {
		if !bytes.HasPrefix(sealed, with) {
			return nil, errors.New("not this one")
		}
		return sealed[len(with):], nil
	}
	k := &Keep{Dir: t.TempDir(), Node: "node-1", Seal: seal, Open: open}
	first, err := k.Add("inc-1", "", 0, []byte("one"), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Add("inc-1", first.Upload, 2, []byte("three"), false); codeOf(err) != "evidence-order" {
		t.Errorf("a part was left out: %v", err)
	}
	done, err := k.Add("inc-1", first.Upload, 1, []byte("two"), true)
	if err != nil || done.Hash != hashOf([]byte("onetwo")) || done.Size != 6 || done.Place != "node:node-1" {
		t.Fatalf("%+v, %v", done, err)
	}
	two, err := k.Get("inc-1", done.Hash, 1)
	if err != nil || string(two.Bytes) != "two" || !two.Last {
		t.Errorf("%+v, %v", two, err)
	}
	for _, id := range []string{"../inc-1", "inc-../x", ""} {
		if _, err := k.Add(id, "", 0, []byte("x"), true); err == nil {
			t.Errorf("%q was taken as an incident", id)
		}
	}
	path := filepath.Join(k.Dir, "inc-1", done.Hash)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[35] ^= 1
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Get("inc-1", done.Hash, 0); !errors.Is(err, ErrBroken) {
		t.Errorf("a flipped byte: %v", err)
	}
}

func TestADocumentHoldsEveryEntryAndItsTableOfContentsIsRight(t *testing.T) {
	x := outage(t, 1)
	x.signals()
	for i := range 60 {
		x.do(&Note{Words: fmt.Sprintf("Note %d: (Übergabe) an \\ Łódź, %s", i, strings.Repeat("and on ", 30))})
	}
	var out bytes.Buffer
	if err := PDF(&out, &Timeline{Entries: x.entries, State: x.s}, nil, x.now); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, want := range []string{"Note 59: \\(\\334bergabe\\)", "[U+0141]", x.s.Head.Hash.String(), "/Count "} {
		if !strings.Contains(text, want) {
			t.Errorf("the document lacks %q", want)
		}
	}
	// every offset of the table is that of its object
	table := text[strings.LastIndex(text, "xref\n0 "):]
	var n int
	if _, err := fmt.Sscanf(table, "xref\n0 %d", &n); err != nil || n < 10 {
		t.Fatalf("%d objects: %v", n, err)
	}
	for i, row := range strings.Split(table, "\n")[3 : n+2] {
		var at int
		if _, err := fmt.Sscanf(row, "%d", &at); err != nil || !strings.HasPrefix(text[at:], fmt.Sprintf("%d 0 obj", i+1)) {
			t.Fatalf("object %d is not at %q", i+1, row)
		}
	}
}
