//go:build faults

package faults

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/fleet"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/gateway/simulator"
)

// site is a company's whole installation: gateways that vote, witnesses, one
// database, and a provider and clients on a machine of their own. Commands and
// the database go by sockets in the file system, which no cable cuts.
type site struct {
	t        testing.TB
	net      *network
	all      []*machine
	gateways []*machine // the first of all
	server   *dbtest.Server
	vendor   *vendor
	org      string
	crowd    *crowd

	spells map[int][]spell // of each gateway, by its place on the network
	kills  map[int][]time.Time
}

// spell is a time in which a gateway is there and nothing excuses it; to is
// zero while it lasts.
type spell struct{ from, to time.Time }

// api is the node of a machine as its local socket shows it.
func (m *machine) api() *node {
	n := &node{t: m.t, dir: m.dir}
	n.local = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", daemon.SocketPath(n.data()))
	}}}
	return n
}

// sees is the fleet as this node sees it now.
func (m *machine) sees() (p fleet.Picture, err error) {
	err = m.api().call(http.MethodGet, "/api/v1/fleet/picture", nil, &p)
	return p, err
}

func newSite(t testing.TB, gateways, witnesses int) *site {
	t.Helper()
	size := gateways + witnesses
	s := &site{t: t, net: newNetwork(t, size+1), server: dbtest.NewServer(t), spells: map[int][]spell{}, kills: map[int][]time.Time{}}
	outside := size + 1
	err := s.net.inside(outside, func() error {
		s.vendor = newVendorAt(t, s.net.address(outside)+":7000", simulator.Options{FirstByte: 20 * time.Millisecond, BetweenChunks: 10 * time.Millisecond})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= size; i++ {
		name, roles, more := fmt.Sprint("witness-", i-gateways), "witness", ""
		if i <= gateways {
			name, roles = fmt.Sprint("gateway-", i), "gateway,fleet"
			more = fmt.Sprintf("listen: {https: %q, http: \"off\"}\nnode: {country: FI}\ndatabase: {dsn: %q}\n%s", s.net.address(i)+":8443", s.server.Config().DSN, thirdParty(s.vendor, ""))
		}
		m := newMachine(t, s.net, i, name, roles, more)
		s.all = append(s.all, m)
		if i <= gateways {
			s.gateways = append(s.gateways, m)
		}
		if i > 1 {
			if i <= gateways {
				s.sameKeys(s.all[0], m)
			}
			m.join(s.all[0])
		}
		m.start()
		if i == 1 {
			s.found()
		}
	}
	for _, m := range s.gateways {
		s.well(m)
	}
	for _, m := range s.all {
		m.until("all members to answer", func(p fleet.Picture) bool { return p.Majority && m.fine(p, s.all...) })
	}
	return s
}

// sameKeys gives a gateway that has not started yet the keys and the authority
// of another, as the guide says.
func (s *site) sameKeys(from, to *machine) {
	s.t.Helper()
	copyKeys(s.t, from.api(), to.api())
	ca := filepath.Join(to.api().data(), "ca")
	if err := os.CopyFS(ca, os.DirFS(filepath.Join(from.api().data(), "ca"))); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Chmod(ca, 0o700); err != nil {
		s.t.Fatal(err)
	}
}

// found makes the organisation that asks, once the first gateway answers.
func (s *site) found() {
	s.t.Helper()
	first := s.all[0].api()
	eventually(s.t, "the first gateway to answer", func() (bool, string) {
		r, err := first.readiness()
		return err == nil && r.Database, fmt.Sprintf("%+v %v", r, err)
	})
	org, key := first.newClient()
	first.must(http.MethodPost, "/budgets", map[string]any{"organisation": org, "period": "total", "limit": "100000.00"}, nil)
	s.org = org
	s.crowd = newCrowd(s.t, s.net, s.net.size, s.all[0], key.Token)
}

// well waits until a gateway answers again, and holds it to that from then on.
func (s *site) well(m *machine) time.Duration {
	s.t.Helper()
	client := s.crowd.client(false, 10*time.Second)
	took := eventually(s.t, m.name+" to answer clients", func() (bool, string) {
		for range 3 {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			a := s.crowd.ask(ctx, client, m.i, 10, false)
			cancel()
			if !a.good() {
				return false, a.String()
			}
		}
		return true, ""
	})
	s.crowd.mu.Lock()
	defer s.crowd.mu.Unlock()
	s.spells[m.i] = append(s.spells[m.i], spell{from: time.Now()})
	return took
}

// unwell excuses a gateway from now on.
func (s *site) unwell(m *machine) {
	s.crowd.mu.Lock()
	defer s.crowd.mu.Unlock()
	if all := s.spells[m.i]; len(all) > 0 && all[len(all)-1].to.IsZero() {
		all[len(all)-1].to = time.Now()
	}
}

// held reports whether a request was asked and ended while nothing excused its
// gateway.
func (s *site) held(a asked) bool {
	for _, sp := range s.spells[a.gateway] {
		if !a.at.Before(sp.from) && (sp.to.IsZero() || a.end.Before(sp.to)) {
			return true
		}
	}
	return false
}

// killed reports whether a request's gateway was killed while it may have been
// under way there, or its outcome not written down yet.
func (s *site) killed(a asked) bool {
	for _, at := range s.kills[a.gateway] {
		if at.After(a.at) && at.Before(a.end.Add(10*time.Second)) {
			return true
		}
	}
	return false
}

func (s *site) kill(m *machine) {
	s.kills[m.i] = append(s.kills[m.i], time.Now())
	m.kill()
}

// frozen stops the database without closing a connection, and says how it goes
// on; stopped shuts it down.
func (s *site) frozen() func() {
	s.server.SignalAll(syscall.SIGSTOP)
	return func() { s.server.SignalAll(syscall.SIGCONT) }
}

func (s *site) stopped() func() {
	s.server.Stop()
	return s.server.Start
}

// books compares what everybody saw with the ledger, to the last unit.
func (s *site) books() (indeterminate, sum int) {
	t := s.t
	t.Helper()
	for _, m := range s.gateways {
		m.api().settled()
	}
	// A client that left while its gateway was cut off is missed when TCP tries
	// again, which is as long after the cut as the cut was long.
	var b book
	eventually(t, "nothing to be in flight", func() (bool, string) {
		b = s.gateways[0].api().ledgerOf(s.org)
		for number, rows := range b {
			if rows[0].State == ledger.StateInFlight {
				return false, fmt.Sprint("request ", number)
			}
		}
		return true, ""
	})
	complain := limited(t)
	byNumber := map[int]asked{}
	for _, a := range s.crowd.everything() {
		byNumber[a.number] = a
		rows := b[a.number]
		switch {
		case a.wrong != "":
			complain("%s", a)
		case s.held(a) && !a.good():
			complain("not answered though nothing was wrong with its gateway: %s", a)
		}
		if a.status == http.StatusOK && len(rows) == 0 {
			complain("answered, and not in the ledger: %s", a)
			continue
		}
		if !a.good() {
			continue
		}
		r := rows[0]
		switch {
		case r.ID.String() != a.id:
			complain("the ledger calls it %s: %s %s", r.ID, a.id, a)
		case r.State == ledger.StateUnknown && s.killed(a):
		case r.State != ledger.StateOK || r.OutputTokens != a.tokens || r.CostNano != a.tokens*nanoPerToken:
			complain("the ledger says %s, %d tokens and %d: %s, %d tokens", r.State, r.OutputTokens, r.CostNano, a, a.tokens)
		}
	}
	for number, rows := range b {
		a, known := byNumber[number]
		sum++
		switch r := rows[0]; {
		case len(rows) != 1:
			complain("request %d has %d rows", number, len(rows))
		case !known:
			complain("the ledger has a request %d that nobody asked", number)
		case r.State == ledger.StateInFlight:
			complain("in flight for ever: %s", a)
		case r.State == ledger.StateUnknown:
			indeterminate++
			if !s.killed(a) {
				complain("its outcome is not known though its gateway was not killed: %s", a)
			}
		}
	}
	for number, times := range arrivals(t, s.vendor) {
		if len(b[number]) == 0 {
			complain("request %d reached the provider and is not in the ledger", number)
		}
		if times > 1 && s.held(byNumber[number]) {
			complain("request %d reached the provider %d times", number, times)
		}
	}
	s.gateways[0].api().spendingAddsUp(s.org)
	return indeterminate, sum
}
