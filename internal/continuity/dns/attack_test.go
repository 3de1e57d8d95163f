package dns_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/continuity/dns"
	"github.com/missionopsai/foundry/internal/continuity/dns/dnstest"
	"github.com/missionopsai/foundry/internal/problem"
)

func mover(t *testing.T, p dns.Provider, change ...func(*dns.Options)) *dns.Mover {
	t.Helper()
	o := dns.Options{Zones: []dns.Zone{{Name: "example.eu", Provider: p}}, Pause: func(int) time.Duration { return time.Millisecond }, Timeout: time.Minute}
	for _, c := range change {
		c(&o)
	}
	m, err := dns.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func to(name, address string) dns.Set {
	return dns.Set{Key: dns.Key{Name: name, Type: "A"}, TTL: 30, Values: []string{address}}
}

func prepared(t *testing.T, m *dns.Mover, epoch uint64, sets ...dns.Set) dns.Plan {
	t.Helper()
	p, err := m.Prepare(t.Context(), dns.Cutover{Epoch: epoch, Sets: sets})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func code(err error) string {
	var e *problem.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func TestAServerRefusesWhoeverHasNotTheRightKey(t *testing.T) {
	k := dnstest.Start(t)
	wrong := k.Provider("mover")
	wrong.Secret = config.Secret{File: k.Secret("d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmc9PT0=")}
	unknown := k.Provider("mover")
	unknown.KeyName = "nobody"
	algorithm := k.Provider("mover")
	algorithm.Algorithm = "hmac-sha512"
	late := k.Provider("mover")
	late.Clock = func() time.Time { return time.Now().Add(-time.Hour) }
	before := dns.Set{Key: dns.Key{Name: "api.example.eu", Type: "A"}, TTL: 60, Values: []string{"192.0.2.1"}}
	for name, c := range map[string]struct {
		p    *dns.Update
		want error
		code string
	}{
		"the secret is another one":   {wrong, dns.ErrKey, "dns-key-wrong"},
		"the key is not known":        {unknown, dns.ErrKey, "dns-key-unknown"},
		"the algorithm is another":    {algorithm, dns.ErrKey, "dns-key-unknown"},
		"the clock is an hour behind": {late, dns.ErrClock, "dns-clock"},
		"the key may only read":       {k.Provider("reader"), dns.ErrKey, ""},
	} {
		err := c.p.Swap(t.Context(), k.Zone, []dns.Change{{Before: before, After: to("api.example.eu", "192.0.2.66")}})
		if !errors.Is(err, c.want) || errors.Is(err, dns.ErrUnknown) || c.code != "" && code(err) != c.code {
			t.Errorf("%s: %q %v", name, code(err), err)
		}
	}
	if got := k.Values("api.example.eu", "A"); got != "192.0.2.1" {
		t.Errorf("the name moved to %s", got)
	}
	late.Clock = func() time.Time { return time.Now().Add(time.Hour) }
	if _, err := late.Read(t.Context(), k.Zone, []dns.Key{before.Key}); !errors.Is(err, dns.ErrClock) || !strings.Contains(err.Error(), "h0m") || !strings.Contains(err.Error(), "ahead of") && !strings.Contains(err.Error(), "59m") {
		t.Errorf("the skew is not told: %v", err)
	}
}

func TestAServerRefusesWhatIsNotItsOwn(t *testing.T) {
	k := dnstest.Start(t)
	p := k.Provider("mover")
	for name, err := range map[string]error{
		"a zone that it has not":       p.Swap(t.Context(), "example.org", []dns.Change{{Before: dns.Set{Key: dns.Key{Name: "a.example.org", Type: "A"}}, After: to("a.example.org", "192.0.2.66")}}),
		"a name from outside the zone": p.Swap(t.Context(), "example.eu", []dns.Change{{Before: dns.Set{Key: dns.Key{Name: "a.example.org", Type: "A"}}, After: to("a.example.org", "192.0.2.66")}}),
	} {
		if !errors.Is(err, dns.ErrRefused) || problem.From(err).Mend == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The server itself refuses: the caller's own look is left out here.
func TestAnEpochThatGoesBackIsRefusedByTheServer(t *testing.T) {
	k := dnstest.Start(t)
	m := mover(t, k.Provider("mover"))
	old := prepared(t, m, 6, to("api.example.eu", "192.0.2.6"))
	if _, err := m.Apply(t.Context(), prepared(t, m, 7, to("api.example.eu", "192.0.2.7"))); err != nil {
		t.Fatal(err)
	}
	z := old.Zones[0]
	err := k.Provider("mover").Swap(t.Context(), k.Zone, append(z.Epochs, z.Changes...))
	if !errors.Is(err, dns.ErrLostRace) || k.Values("api.example.eu", "A") != "192.0.2.7" {
		t.Fatal(k.Values("api.example.eu", "A"), err)
	}
}

func TestSomebodyElsesChangeIsNotOverwritten(t *testing.T) {
	k := dnstest.Start(t)
	p := k.Provider("mover")
	m := mover(t, p)
	plan := prepared(t, m, 7, to("api.example.eu", "192.0.2.7"))
	by := dns.Change{Before: plan.Zones[0].Changes[0].Before, After: to("api.example.eu", "192.0.2.50")}
	if err := p.Swap(t.Context(), k.Zone, []dns.Change{by}); err != nil {
		t.Fatal(err)
	}
	r, err := m.Apply(t.Context(), plan)
	if !errors.Is(err, dns.ErrLostRace) || r.Zones[0].State != dns.NotMoved || k.Values("api.example.eu", "A") != "192.0.2.50" {
		t.Fatalf("%+v %v", r, err)
	}
	// Nor is a change after the cutover, by the same cutover made again.
	if _, err := m.Apply(t.Context(), prepared(t, m, 8, to("api.example.eu", "192.0.2.8"))); err != nil {
		t.Fatal(err)
	}
	if err := p.Swap(t.Context(), k.Zone, []dns.Change{{Before: to("api.example.eu", "192.0.2.8"), After: to("api.example.eu", "192.0.2.51")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Prepare(t.Context(), dns.Cutover{Epoch: 8, Sets: []dns.Set{to("api.example.eu", "192.0.2.8")}}); code(err) != "dns-changed-since" {
		t.Error(err)
	}
}

func TestARecordThatIsNotOursStopsACutover(t *testing.T) {
	k := dnstest.Start(t)
	p := k.Provider("mover")
	key := dns.Key{Name: "_foundry-epoch.api.example.eu", Type: "TXT"}
	for i, text := range []string{"v=spf1 -all", "foundry-epoch=-1 of=00", "foundry-epoch=99999999999999999999 of=00", "foundry-epoch=1 of=00 and more"} {
		have, err := p.Read(t.Context(), k.Zone, []dns.Key{key})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Swap(t.Context(), k.Zone, []dns.Change{{Before: have[0], After: dns.Set{Key: key, TTL: 60, Values: []string{text}}}}); err != nil {
			t.Fatal(i, err)
		}
		if _, err := mover(t, p).Prepare(t.Context(), dns.Cutover{Epoch: 7, Sets: []dns.Set{to("api.example.eu", "192.0.2.7")}}); code(err) != "dns-epoch-foreign" {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// tap stands between a mover and its server. It sees whole messages.
type tap struct {
	net.Listener
	mu      sync.Mutex
	updates [][]byte // as they came, with their two bytes of length
	// pass decides what becomes of an update; nil: it goes through.
	pass func(n int, up, down func() []byte) []byte
}

func tapped(t *testing.T, server string) *tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{Listener: l}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c, server)
		}
	}()
	return p
}

func message(r io.Reader) []byte {
	head := make([]byte, 2)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil
	}
	body := make([]byte, binary.BigEndian.Uint16(head))
	if _, err := io.ReadFull(r, body); err != nil {
		return nil
	}
	return append(head, body...)
}

func (p *tap) serve(c net.Conn, server string) {
	defer c.Close()
	ask := message(c)
	if ask == nil {
		return
	}
	up := func() []byte { return forward(server, ask) }
	if mdns.OpcodeUpdate != int(ask[4]>>3&15) {
		_, _ = c.Write(up())
		return
	}
	p.mu.Lock()
	p.updates = append(p.updates, ask)
	n, pass := len(p.updates), p.pass
	p.mu.Unlock()
	if pass == nil {
		_, _ = c.Write(up())
		return
	}
	_, _ = c.Write(pass(n, up, func() []byte { return ask }))
}

func forward(server string, ask []byte) []byte {
	s, err := net.Dial("tcp", server)
	if err != nil {
		return nil
	}
	defer s.Close()
	if _, err := s.Write(ask); err != nil {
		return nil
	}
	return message(s)
}

func TestAReplayedUpdateChangesNothing(t *testing.T) {
	k := dnstest.Start(t)
	p := tapped(t, k.Addr)
	u := k.Provider("mover")
	u.Server = p.Addr().String()
	m := mover(t, u)
	for n, address := range []string{"192.0.2.7", "192.0.2.8"} {
		if _, err := m.Apply(t.Context(), prepared(t, m, uint64(7+n), to("api.example.eu", address))); err != nil {
			t.Fatal(err)
		}
	}
	if len(p.updates) != 2 {
		t.Fatal(len(p.updates))
	}
	for n, stolen := range p.updates {
		a := new(mdns.Msg)
		if err := a.Unpack(forward(k.Addr, stolen)[2:]); err != nil {
			t.Fatal(err)
		}
		if a.Rcode == mdns.RcodeSuccess || k.Values("api.example.eu", "A") != "192.0.2.8" {
			t.Errorf("update %d again: %s, the name is at %s", n, mdns.RcodeToString[a.Rcode], k.Values("api.example.eu", "A"))
		}
	}
}

func TestAnAnswerThatIsLostIsFoundOutByLooking(t *testing.T) {
	k := dnstest.Start(t)
	p := tapped(t, k.Addr)
	u := k.Provider("mover")
	u.Server = p.Addr().String()
	m := mover(t, u)
	p.pass = func(n int, up, _ func() []byte) []byte { up(); return nil } // done, and the answer lost
	r, err := m.Apply(t.Context(), prepared(t, m, 7, to("api.example.eu", "192.0.2.7"), to("www.example.eu", "192.0.2.7")))
	if err != nil || r.Zones[0].State != dns.Moved || len(p.updates) != 1 || k.Values("www.example.eu", "A") != "192.0.2.7" {
		t.Fatalf("%+v %v, %d updates", r, err, len(p.updates))
	}
}

func TestAnUpdateThatNeverArrivedIsSentAgain(t *testing.T) {
	k := dnstest.Start(t)
	p := tapped(t, k.Addr)
	u := k.Provider("mover")
	u.Server = p.Addr().String()
	m := mover(t, u)
	p.pass = func(n int, up, _ func() []byte) []byte {
		if n < 3 {
			return nil
		}
		return up()
	}
	r, err := m.Apply(t.Context(), prepared(t, m, 7, to("api.example.eu", "192.0.2.7")))
	if err != nil || r.Zones[0].State != dns.Moved || r.Zones[0].Attempts != 3 {
		t.Fatalf("%+v %v", r, err)
	}
}

// An update is delayed on its way, is sent again, and arrives late.
func TestAnUpdateThatArrivesTwiceIsMadeOnce(t *testing.T) {
	k := dnstest.Start(t)
	p := tapped(t, k.Addr)
	u := k.Provider("mover")
	u.Server = p.Addr().String()
	m := mover(t, u)
	var late func() []byte
	p.pass = func(n int, up, _ func() []byte) []byte {
		if n == 1 {
			late = up
			return nil
		}
		return up()
	}
	if _, err := m.Apply(t.Context(), prepared(t, m, 7, to("api.example.eu", "192.0.2.7"))); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Apply(t.Context(), prepared(t, m, 8, to("api.example.eu", "192.0.2.8"))); err != nil {
		t.Fatal(err)
	}
	late()
	if got := k.Values("api.example.eu", "A"); got != "192.0.2.8" {
		t.Errorf("the late update moved the name to %s", got)
	}
}

func TestAServerThatDiesAfterTheUpdateLeavesTheOutcomeUnknownAndSaysSo(t *testing.T) {
	k := dnstest.Start(t)
	p := tapped(t, k.Addr)
	u := k.Provider("mover")
	u.Server = p.Addr().String()
	m := mover(t, u, func(o *dns.Options) { o.Attempts = 2 })
	plan := prepared(t, m, 7, to("api.example.eu", "192.0.2.7"))
	p.pass = func(int, func() []byte, func() []byte) []byte { k.Stop(); _ = p.Close(); return nil }
	r, err := m.Apply(t.Context(), plan)
	if !errors.Is(err, dns.ErrUnknown) || r.Zones[0].State != dns.Unknown || code(err) != "dns-outcome-unknown" || r.Complete() {
		t.Fatalf("%+v %v", r, err)
	}
}

func TestAServerThatIsAwayLeavesNothingInDoubt(t *testing.T) {
	k := dnstest.Start(t)
	m := mover(t, k.Provider("mover"), func(o *dns.Options) { o.Attempts = 2 })
	plan := prepared(t, m, 7, to("api.example.eu", "192.0.2.7"))
	k.Stop()
	awaitGone(t, k.Addr)
	r, err := m.Apply(t.Context(), plan)
	if !errors.Is(err, dns.ErrUnreachable) || errors.Is(err, dns.ErrUnknown) || r.Zones[0].State != dns.NotMoved || r.Zones[0].Attempts != 2 {
		t.Fatalf("%+v %v", r, err)
	}
}

func awaitGone(t *testing.T, addr string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-time.After(10 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		c.Close()
	}
	t.Fatal("the server is still there")
}

// Somebody on the way answers instead of the server, without the key.
func TestAnAnswerWithoutASignatureCountsForNothing(t *testing.T) {
	k := dnstest.Start(t)
	p := tapped(t, k.Addr)
	u := k.Provider("mover")
	u.Server = p.Addr().String()
	m := mover(t, u, func(o *dns.Options) { o.Attempts = 2 })
	plan := prepared(t, m, 7, to("api.example.eu", "192.0.2.7"))
	p.pass = func(_ int, _, ask func() []byte) []byte {
		q := new(mdns.Msg)
		if q.Unpack(ask()[2:]) != nil {
			return nil
		}
		a := new(mdns.Msg).SetReply(q)
		b, _ := a.Pack()
		return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
	}
	r, err := m.Apply(t.Context(), plan)
	if err == nil || r.Zones[0].State != dns.NotMoved {
		t.Fatalf("a forged answer was believed: %+v %v", r, err)
	}
	if got := k.Values("api.example.eu", "A"); got != "192.0.2.1" {
		t.Error(got)
	}
}

func TestAContextThatEndsIsSaidNotSwallowed(t *testing.T) {
	k := dnstest.Start(t)
	p := tapped(t, k.Addr)
	u := k.Provider("mover")
	u.Server = p.Addr().String()
	m := mover(t, u)
	plan := prepared(t, m, 7, to("api.example.eu", "192.0.2.7"))
	ctx, cancel := context.WithCancel(t.Context())
	p.pass = func(_ int, up, _ func() []byte) []byte { up(); cancel(); return nil }
	r, err := m.Apply(ctx, plan)
	if err != nil || r.Zones[0].State != dns.Moved {
		t.Fatalf("it was made, and the look says: %+v %v", r, err)
	}
}

func TestOneOfSeveralZonesThatCannotMoveIsSaid(t *testing.T) {
	k := dnstest.Start(t)
	h, sim := simulated(t)
	m, err := dns.New(dns.Options{Attempts: 2, Pause: func(int) time.Duration { return time.Millisecond }, Timeout: time.Minute,
		Zones: []dns.Zone{{Name: "example.eu", Provider: h}, {Name: "lab.example.eu", Provider: k.Provider("mover")}}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.Prepare(t.Context(), dns.Cutover{Epoch: 7, Sets: []dns.Set{to("api.example.eu", "192.0.2.7"), to("a.lab.example.eu", "192.0.2.7")}})
	if !errors.Is(err, dns.ErrRefused) || len(sim.Calls()) != 1 {
		t.Fatalf("a zone that its server has not: %v, %v", err, sim.Calls())
	}
	if _, err := m.Prepare(t.Context(), dns.Cutover{Epoch: 7, Sets: []dns.Set{to("api.example.org", "192.0.2.7")}}); code(err) != "dns-zone-unknown" {
		t.Error(err)
	}
}
