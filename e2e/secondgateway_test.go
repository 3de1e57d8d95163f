package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/fleet"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
	"github.com/missionopsai/foundry/internal/gateway/simulator"
)

const oneTakesOverFromTheOther = `
version: 1
organisation: {name: Nordhaven, country: DK, owner: head}
people: [{name: head}]
nodes:
  - {name: one, roles: [gateway, fleet]}
  - {name: two, roles: [gateway, fleet]}
functions:
  - {name: platform, host: [one], fallbacks: [{node: two}]}
`

// With the invitation a gateway that takes over from another by the plan gets
// its keys, and works on its database at once; one that does not gets none,
// and is told why.
func TestASecondGatewayGetsItsKeysWithItsPlaceInTheFleet(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Config(t).DSN
	one := prepared(t)
	if _, err := one.vendor("openai", simulator.Options{Format: simulator.OpenAI}); err != nil {
		t.Fatal(err)
	}
	configured := func(w *world, name string) daemon.Config {
		c := onDatabase(dsn, w)
		at := membertest.Free(t, 3)
		c.DataDir = filepath.Join(w.dir, "d")
		c.Fleet = daemon.FleetConfig{Name: name, Listen: daemon.DoorsConfig{Peers: at[0], Clients: at[1], Join: at[2]}}
		return c
	}
	start(t, configured(one, "one"), one, nil)
	k := one.key(t, one.org(t, anywhere()), nil)
	err := fleet.PublishPlan(t.Context(), one.d.Member().Store(), "sha256:1", "1", time.Now(), []byte(oneTakesOverFromTheOther), nil)
	if err != nil {
		t.Fatal(err)
	}
	join := func(name string, roles ...string) (*world, daemon.Config, member.Joined) {
		t.Helper()
		w := prepared(t)
		t.Cleanup(func() { _ = w.stop() })
		w.vendors = one.vendors
		c := configured(w, name)
		if err := os.MkdirAll(c.DataDir, 0o711); err != nil {
			t.Fatal(err)
		}
		var i member.Invited
		one.must(t, "POST", "/fleet/invitations", map[string]any{"name": name, "roles": roles}, &i)
		attempt := func(token string) (member.Joined, error) {
			at, err := daemon.BeginJoin(c.DataDir)
			if err != nil {
				t.Fatal(err)
			}
			ring, err := daemon.OpenKeyring(c, nil)
			if err != nil {
				t.Fatal(err)
			}
			o := c.MemberOptions(nil, "e2e", ring)
			if at.Fresh {
				o.Take = daemon.TakeKeys(c, nil)
			}
			j, err := member.Join(t.Context(), o, token)
			if eerr := at.End(err == nil); eerr != nil {
				t.Fatal(eerr)
			}
			return j, err
		}
		// A letter of the secret is another: it is refused, and the next gets keys all the same.
		wrong := []byte(i.Token)
		if wrong[20] = 'a'; i.Token[20] == 'a' {
			wrong[20] = 'b'
		}
		if _, err := attempt(string(wrong)); err == nil {
			t.Fatal("an altered invitation was accepted")
		}
		j, err := attempt(i.Token)
		if err != nil {
			t.Fatal(err)
		}
		return w, c, j
	}
	if _, _, j := join("three", "gateway"); j.Keys || j.Why == "" {
		t.Errorf("a node that the plan does not name was given keys (%q)", j.Why)
	}
	two, c, j := join("two", "gateway", "fleet")
	if !j.Keys {
		t.Fatalf("it was given no keys: %s", j.Why)
	}
	start(t, c, two, nil)
	eventually(t, "the second gateway to know a key made on the first", func() (bool, string) {
		r := two.get(t, k.Token, question{model: "simulator-chat", limit: 5})
		return r.status == 200, r.String()
	})
	if two.d.Member().Name() != "two" {
		t.Errorf("it is called %s", two.d.Member().Name())
	}
	if a, b := authorityOf(t, one), authorityOf(t, two); a != b {
		t.Error("clients of the first do not trust the second")
	}
}

func authorityOf(t *testing.T, w *world) string {
	t.Helper()
	text, err := os.ReadFile(daemon.AuthorityFile(w.d.DataDir()))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
