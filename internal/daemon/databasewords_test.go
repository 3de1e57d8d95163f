package daemon

import (
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/gateway/journal"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
)

func TestTheFleetsDatabaseIsSaidInWords(t *testing.T) {
	now := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		f    *FleetDatabase
		want []string
	}{
		"another":   {nil, nil},
		"a primary": {&FleetDatabase{State: DatabasePrimary, Words: "It runs here.", Primary: "one", Epoch: 3, Own: 3, Until: now.Add(8*time.Second + 123*time.Millisecond)}, []string{"primary: one, epoch 3", "It runs here.", "stops here in 8.1s"}},
		"alone":     {&FleetDatabase{State: DatabasePrimary, Primary: "one", Epoch: 1, Own: 1}, []string{"without end"}},
		"a follower that was replaced": {&FleetDatabase{State: DatabaseFollows, Words: "two runs it.", Primary: "two", Epoch: 2, Reshipped: &ledger.Reshipped{Had: journal.Position{Boot: 1, Seq: 9}, Has: journal.Position{Boot: 1, Seq: 4}, From: journal.Position{Boot: 1, Seq: 7}}},
			[]string{"follows: two, epoch 2", "it lacked 5 records", "3 were shipped again", "2 are in no journal"}},
		"replaced":   {&FleetDatabase{State: DatabaseFenced, Words: "Its data are kept until this node rejoins.", Primary: "two", Epoch: 2, Own: 1}, []string{"fenced: two, epoch 2", "are of epoch 1", "foundry database reconcile", "foundry database rejoin"}},
		"ordered":    {&FleetDatabase{State: DatabaseFenced, Words: "It was ordered.", Epoch: 2, Own: 2}, []string{"fenced: nobody", "foundry database rejoin"}},
		"a minority": {&FleetDatabase{State: DatabaseWaiting, Words: "The fleet does not answer."}, []string{"foundry node status"}},
		"nobody":     {&FleetDatabase{State: DatabaseNone, Words: "No node runs it."}, []string{"none: nobody", "foundry recovery plans"}},
	} {
		var text strings.Builder
		for _, l := range c.f.Lines(now) {
			text.WriteString(l[0] + " " + l[1] + "\n")
		}
		for _, w := range c.want {
			if !strings.Contains(text.String(), w) {
				t.Errorf("%s: %q does not say %q", name, text.String(), w)
			}
		}
		if c.f == nil && text.Len() > 0 {
			t.Errorf("%s: %q", name, text.String())
		}
	}
}
