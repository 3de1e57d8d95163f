package member

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// However often a fleet is recovered, from whichever snapshot, on whichever
// node: what it counts from then on is above all that was counted before. A
// recovery takes longer than a millisecond.
func TestTheRevisionRisesOverEveryRecovery(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := beginning.Add(time.Duration(rapid.Int64Range(1, 20*365*24).Draw(t, "hours")) * time.Hour)
		type node struct{ high int64 }
		nodes := make([]node, rapid.IntRange(1, 5).Draw(t, "nodes"))
		revision, highest := int64(1), int64(1)
		snapshots := []int64{1}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			passed := time.Duration(rapid.Int64Range(int64(time.Millisecond), int64(time.Hour)).Draw(t, "passed"))
			now = now.Add(passed)
			switch rapid.SampledFrom([]string{"write", "snapshot", "recover"}).Draw(t, "step") {
			case "write": // at most one in a microsecond
				revision += min(passed.Microseconds(), rapid.Int64Range(0, 1_000_000).Draw(t, "writes"))
				nodes[rapid.IntRange(0, len(nodes)-1).Draw(t, "seen by")].high = revision
			case "snapshot":
				snapshots = append(snapshots, revision)
			case "recover":
				from := rapid.SampledFrom(snapshots).Draw(t, "from")
				n := &nodes[rapid.IntRange(0, len(nodes)-1).Draw(t, "on")]
				next := raised(from, n.high, now)
				if next <= highest {
					t.Fatalf("%d after %d", next, highest)
				}
				revision, n.high = next, next
			}
			highest = max(highest, revision)
		}
	})
}

func TestAClockThatWasSetBackDoesNotTakeTheRevisionBack(t *testing.T) {
	early := beginning.Add(time.Hour)
	if got := raised(40, 1<<50, early); got <= 1<<50 {
		t.Fatalf("got %d", got)
	}
	if got := raised(1<<50, 40, beginning.Add(-time.Hour)); got <= 1<<50 {
		t.Fatalf("got %d", got)
	}
}

func FuzzAnInvitationIsReadOrRefused(f *testing.F) {
	t := newTicket(make([]byte, 32), way{make([]byte, 32), []string{"10.0.0.1:8492", "[::1]:1"}, "node-2"})
	f.Add(t.String())
	f.Add("")
	f.Add("fdn_")
	f.Add("fdn_" + strings.Repeat("a", 58) + ".e30")
	f.Add(strings.Replace(t.String(), ".", "..", 1))
	f.Fuzz(func(tt *testing.T, text string) {
		got, err := parseTicket(text)
		if err != nil {
			return
		}
		again, err := parseTicket(got.String())
		if err != nil || again.code() != got.code() || again.way.Name != got.way.Name {
			tt.Fatalf("%q does not survive: %v", text, err)
		}
	})
}

func TestATagOfAnotherFleetIsNotGenuine(t *testing.T) {
	a := newTicket([]byte("one"), way{make([]byte, 32), []string{"a:1"}, "n"})
	if a.tag != tagOf([]byte("one"), a.selector, a.secret) || a.tag == tagOf([]byte("two"), a.selector, a.secret) {
		t.Fatal("tags do not tell fleets apart")
	}
}

func FuzzMergingKeepsJSONWhole(f *testing.F) {
	f.Add(`{"name":"a","extra":{"x":[1]}}`)
	f.Add(`[]`)
	f.Add(``)
	f.Add(`{"issued":null,"addresses":{"peers":"a","new":1}}`)
	f.Fuzz(func(t *testing.T, old string) {
		if old != "" && !json.Valid([]byte(old)) {
			return
		}
		out, err := merged(json.RawMessage(old), Node{Name: "n", Addresses: Addresses{Peers: "p"}})
		if err != nil {
			return
		}
		var n Node
		if err := json.Unmarshal(out, &n); err != nil || n.Name != "n" || n.Addresses.Peers != "p" {
			t.Fatalf("%s: %v", out, err)
		}
	})
}

func TestRolesAndNames(t *testing.T) {
	for name, ok := range map[string]bool{"node-1": true, "a": true, "": false, "Node": false, "-a": false, "a-": false, "a.b": false, "a/b": false, strings.Repeat("a", 41): false} {
		if (CheckName(name) == nil) != ok {
			t.Errorf("%q", name)
		}
	}
	for _, c := range []struct {
		roles []Role
		ok    bool
	}{{nil, false}, {[]Role{Fleet}, true}, {[]Role{Gateway, Fleet, Inference}, true}, {[]Role{Witness}, true}, {[]Role{Witness, Gateway}, false}, {[]Role{"x"}, false}} {
		if (CheckRoles(c.roles) == nil) != c.ok {
			t.Errorf("%v", c.roles)
		}
	}
	for _, c := range []struct {
		listen, advertise Addresses
		ok                bool
	}{
		{Addresses{}, Addresses{}, true},
		{Addresses{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"}, Addresses{}, true},
		{Addresses{"127.0.0.1:1", "", ""}, Addresses{}, false},
		{Addresses{"example.org:1", "127.0.0.1:2", "127.0.0.1:3"}, Addresses{}, false},
		{Addresses{"0.0.0.0:1", "0.0.0.0:2", "0.0.0.0:3"}, Addresses{}, false},
		{Addresses{"0.0.0.0:1", "0.0.0.0:2", "0.0.0.0:3"}, Addresses{"a:1", "a:2", "a:3"}, true},
		{Addresses{"127.0.0.1:0", "127.0.0.1:2", "127.0.0.1:3"}, Addresses{}, false},
	} {
		if (CheckAddresses(c.listen, c.advertise) == nil) != c.ok {
			t.Errorf("%+v %+v", c.listen, c.advertise)
		}
	}
}
