package dns_test

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/missionopsai/foundry/internal/continuity/dns"
	"github.com/missionopsai/foundry/internal/continuity/dns/dnstest"
)

// answering serves one address for every name, over UDP.
func answering(t *testing.T, authority bool, ttl uint32, address func() string) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &mdns.Server{PacketConn: pc, Handler: mdns.HandlerFunc(func(w mdns.ResponseWriter, q *mdns.Msg) {
		a := new(mdns.Msg).SetReply(q)
		a.Authoritative = authority
		a.Answer = append(a.Answer, &mdns.A{Hdr: mdns.RR_Header{Name: q.Question[0].Name, Rrtype: mdns.TypeA, Class: mdns.ClassINET, Ttl: ttl}, A: net.ParseIP(address())})
		_ = w.WriteMsg(a)
	})}
	go func() { _ = s.ActivateAndServe() }()
	t.Cleanup(func() { _ = s.Shutdown() })
	return pc.LocalAddr().String()
}

func TestACutoverIsVisibleWhenEveryAuthoritySaysIt(t *testing.T) {
	k := dnstest.Start(t)
	var asked atomic.Int32
	slow := answering(t, true, 30, func() string { // a secondary that hears of it late
		if asked.Add(1) < 4 {
			return "192.0.2.1"
		}
		return "192.0.2.7"
	})
	resolver := answering(t, false, 17, func() string { return "192.0.2.1" })
	m := mover(t, k.Provider("mover"), func(o *dns.Options) {
		o.Zones[0].Authorities = []string{k.Addr, slow}
		o.Resolvers = []string{resolver}
	})
	plan := prepared(t, m, 7, to("api.example.eu", "192.0.2.7"))
	if _, err := m.Apply(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	first, err := m.Look(t.Context(), plan)
	if err != nil || first.Authorities || first.Sights[0].Seen != true || first.Sights[1].Seen {
		t.Fatalf("%+v %v", first, err)
	}
	v, err := m.Await(t.Context(), plan, 5*time.Millisecond)
	if err != nil || !v.Authorities || v.Resolvers || v.Stale != 17*time.Second || v.After <= 0 {
		t.Fatalf("%+v %v", v, err)
	}
}

func TestAnAuthorityThatDoesNotAnswerIsNamed(t *testing.T) {
	k := dnstest.Start(t)
	dead, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer dead.Close()
	lame := answering(t, false, 30, func() string { return "192.0.2.7" })
	for name, server := range map[string]string{"silent": dead.LocalAddr().String(), "lame": lame} {
		m := mover(t, k.Provider("mover"), func(o *dns.Options) {
			o.Zones[0].Authorities = []string{k.Addr, server}
			o.Timeout = 200 * time.Millisecond
		})
		p := dns.Plan{Zones: []dns.ZonePlan{{Zone: "example.eu", Changes: []dns.Change{{After: to("ns.example.eu", "127.0.0.1")}}}}}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := m.Await(ctx, p, time.Millisecond); err == nil {
			t.Errorf("%s: it counts as seen", name)
		}
		v, err := m.Look(t.Context(), p)
		if err != nil || v.Authorities || v.Sights[1].Error == "" {
			t.Errorf("%s: %+v %v", name, v, err)
		}
	}
}

func TestNamesAndValuesThatCannotBeMovedAreRefusedBeforeAnybodyIsAsked(t *testing.T) {
	m := mover(t, &dns.Update{Server: "127.0.0.1:1", KeyName: "k"}, func(o *dns.Options) { o.Zones = nil })
	good := to("api.example.eu", "192.0.2.7")
	for want, sets := range map[string][]dns.Set{
		"dns-sets":      {},
		"dns-name":      {to("*.example.eu", "192.0.2.7")},
		"dns-type":      {{Key: dns.Key{Name: "example.eu", Type: "NS"}, TTL: 30, Values: []string{"ns.example.eu"}}},
		"dns-address":   {to("api.example.eu", "2001:db8::1")},
		"dns-ttl":       {{Key: good.Key, Values: good.Values}},
		"dns-set-twice": {good, to("API.example.eu.", "192.0.2.8")},
		"dns-values":    {{Key: dns.Key{Name: "api.example.eu", Type: "CNAME"}, TTL: 30, Values: []string{"a.example.eu", "b.example.eu"}}},
	} {
		if _, err := m.Prepare(t.Context(), dns.Cutover{Epoch: 1, Sets: sets}); code(err) != want {
			t.Errorf("want %s: %v", want, err)
		}
	}
	for _, name := range []string{"", ".", "a..b", "-a.eu", "a_b .eu", "ü.eu", strings.Repeat("a", 64) + ".eu", "_foundry-epoch.api.example.eu", "a\n.eu"} {
		if _, err := m.Prepare(t.Context(), dns.Cutover{Epoch: 1, Sets: []dns.Set{to(name, "192.0.2.7")}}); code(err) != "dns-name" {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := m.Prepare(t.Context(), dns.Cutover{Sets: []dns.Set{good}}); code(err) != "dns-epoch" {
		t.Error(err)
	}
}

// Whatever order cutovers are applied in, and however often, the zone ends with
// the newest, and what it says of itself is true.
func TestInAnyOrderTheNewestCutoverStands(t *testing.T) {
	k := dnstest.Start(t)
	m := mover(t, k.Provider("mover"))
	base := uint64(0)
	rapid.Check(t, func(r *rapid.T) {
		base += 100
		newest := uint64(0)
		for _, n := range rapid.SliceOfN(rapid.Uint64Range(1, 20), 1, 6).Draw(r, "epochs") {
			address := net.IPv4(192, 0, 2, byte(100+n)).String()
			p, err := m.Prepare(t.Context(), dns.Cutover{Epoch: base + n, Sets: []dns.Set{to("api.example.eu", address)}})
			if (err == nil) != (n >= newest) {
				r.Fatalf("epoch %d after %d: %v", n, newest, err)
			}
			if err != nil {
				continue
			}
			if got, err := m.Apply(t.Context(), p); err != nil || !got.Complete() {
				r.Fatal(got, err)
			}
			newest = n
			if got := k.Values("api.example.eu", "A"); got != address {
				r.Fatalf("it is at %s, not %s", got, address)
			}
		}
	})
}
