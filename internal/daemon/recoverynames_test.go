//go:build faults

package daemon

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/continuity/dns"
	"github.com/missionopsai/foundry/internal/continuity/dns/dnstest"
	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
	"github.com/missionopsai/foundry/internal/incident"
)

// The old machine is no member: nobody has to fence what writes nothing here.
const moving = `version: 1
organisation: {name: Demo, owner: anna, country: FI}
people: [{name: anna}]
nodes: [{name: one, roles: [fleet]}, {name: old, roles: [gateway]}]
functions:
  - {name: web, mtd: 1 day, rto: 4h, host: [old], hostnames: [api.example.eu], dns_ttl: 30s, probes: [{name: port, kind: tcp, target: "%s", every: 1s, from: [one]}]}
recovery:
  - name: move
    functions: [web]
    onto: [one]
    steps:
      - {name: look, kind: validate, takes: 6s}
      - {name: names, kind: dns}
`

// between stands before name servers, sees every message, and does with it what
// the test says.
type between struct {
	net.Listener
	mu   sync.Mutex
	does func(update bool, ask []byte) []byte // nil: the connection ends without an answer
}

func (b *between) set(does func(update bool, ask []byte) []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.does = does
}

func standBetween(t *testing.T) *between {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	b := &between{Listener: l}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				ask := oneMessage(c)
				b.mu.Lock()
				does := b.does
				b.mu.Unlock()
				if ask != nil && does != nil {
					_, _ = c.Write(does(int(ask[4]>>3&15) == mdns.OpcodeUpdate, ask))
				}
			}()
		}
	}()
	return b
}

// byDatagram answers questions that come by UDP, as [between] does those by TCP:
// whoever looks whether a name has moved asks so first.
func (b *between) byDatagram(t *testing.T) {
	t.Helper()
	u, err := net.ListenPacket("udp", b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = u.Close() })
	go func() {
		for piece := make([]byte, 4096); ; {
			n, from, err := u.ReadFrom(piece)
			if err != nil {
				return
			}
			ask := append(binary.BigEndian.AppendUint16(nil, uint16(n)), piece[:n]...)
			b.mu.Lock()
			does := b.does
			b.mu.Unlock()
			go func() {
				if does == nil {
					return
				}
				if a := does(false, ask); a != nil {
					_, _ = u.WriteTo(a[2:], from)
				}
			}()
		}
	}()
}

// oneMessage reads a message with the two bytes of its length (RFC 1035 section
// 4.2.2).
func oneMessage(r io.Reader) []byte {
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

func passOn(server string, ask []byte) []byte {
	s, err := net.Dial("tcp", server)
	if err != nil {
		return nil
	}
	defer s.Close()
	if _, err := s.Write(ask); err != nil {
		return nil
	}
	return oneMessage(s)
}

// signed is an answer to an update that says nothing but a code, signed as the
// server would.
func signed(t *testing.T, ask []byte, rcode int, secret string) []byte {
	q := new(mdns.Msg)
	if err := q.Unpack(ask[2:]); err != nil || q.IsTsig() == nil {
		t.Errorf("the update is none: %v", err)
		return nil
	}
	asked := q.IsTsig()
	a := new(mdns.Msg)
	a.SetRcode(q, rcode)
	a.SetTsig(asked.Hdr.Name, asked.Algorithm, asked.Fudge, time.Now().Unix())
	body, _, err := mdns.TsigGenerate(a, secret, asked.MAC, false)
	if err != nil {
		t.Error(err)
		return nil
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(body))), body...)
}

// door is a port that a probe looks at, open or shut.
func (p *process) door() (address string, open func()) {
	at := membertest.Free(p.t, 1)[0]
	return at, func() {
		l := membertest.Listen(p.t, at, nil)
		p.t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_ = c.Close()
			}
		}()
	}
}

// movingNames is a process that may change a zone, which is behind between.
func movingNames(t *testing.T, patience time.Duration) (p *process, b *between, key string) {
	t.Helper()
	b = standBetween(t)
	b.byDatagram(t)
	key = filepath.Join(t.TempDir(), "key")
	c := inFleet(t, "one")
	at := b.Addr().String()
	c.Continuity = ContinuityConfig{DNS: DNSConfig{Zones: []ZoneConfig{{Name: "example.eu", Provider: "rfc2136", Server: at, KeyName: "mover", Key: config.Secret{File: key}, Authorities: []string{at}}},
		Addresses: map[string][]string{"one": {"198.51.100.1"}}, Visible: config.Duration(time.Minute), Patience: config.Duration(patience)}}
	writeKey(t, key, base64.StdEncoding.EncodeToString(make([]byte, 32)))
	return operated(t, c, &wall{}), b, key
}

func writeKey(t *testing.T, path, secret string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

const (
	before = "192.0.2.1"
	after  = "198.51.100.1"
)

// While the validation fails names stay where they are, whoever says what; once
// it has passed they move.
func TestARecoveryMovesNoNameWhileItsValidationFailsAndNobodyWavesItThrough(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a process and waits for probes")
	}
	t.Parallel()
	p, b, key := movingNames(t, time.Nanosecond)
	k := dnstest.Start(t)
	writeKey(t, key, secretOf(t, k))
	var updates atomic.Int64
	b.set(func(update bool, ask []byte) []byte {
		if update {
			updates.Add(1)
		}
		return passOn(k.Addr, ask)
	})
	door, open := p.door()
	p.goesBy(fmt.Sprintf(moving, door))
	id := p.opens(incident.Begin{Nodes: []string{"old"}, Functions: []string{"web"}})
	r := p.starts(id, "move")
	_, look := p.comesTo(r.ID, "look", recovery.Failed)
	if look.Receipt == nil || look.Receipt.Code != "recovery-validation-failed" || !strings.Contains(look.Words, "web/port") || look.Receipt.By != "node:one" {
		t.Errorf("the validation failed with %+v", look.Receipt)
	}
	ctx := t.Context()
	if _, err := p.recovery.Say(ctx, p.who, r.ID, recovery.Word{Step: "look", Words: "It surely works.", Evidence: []string{"ticket:1"}}, false); codeOf(err) != "recovery-say-gate" {
		t.Errorf("a person waved the validation through: %v", err)
	}
	for _, step := range []string{"look", "names"} {
		word := recovery.Word{Step: step, Words: "There is no time.", Evidence: []string{"ticket:1"}}
		if _, err := p.recovery.Skip(ctx, p.who, r.ID, word); step == "look" && codeOf(err) != "recovery-skip-gate" {
			t.Errorf("a person skipped %s: %v", step, err)
		}
		if step == "names" {
			if _, err := p.recovery.Say(ctx, p.who, r.ID, word, false); codeOf(err) != "recovery-say-idle" {
				t.Errorf("a person said that names had moved: %v", err)
			}
		}
	}
	if !slices.Contains(p.acts(id), "recovery.skip move/look refused recovery-skip-gate") {
		t.Errorf("that somebody tried to is not in the timeline: %q", p.acts(id))
	}
	if got := k.Values("api.example.eu", "A"); got != before || updates.Load() != 0 {
		t.Fatalf("held, and moved to %q with %d updates", got, updates.Load())
	}

	// Another run: in the one above somebody has given the names up.
	if _, err := p.recovery.Abandon(ctx, p.who, r.ID, "It is started anew."); err != nil {
		t.Fatal(err)
	}
	p.until(r.ID, "the run ends", func(r recovery.Shown) bool { return r.Outcome == "abandoned" })
	r = p.starts(id, "move")
	p.comesTo(r.ID, "look", recovery.Failed)
	open()
	p.goesOn(r.ID, "look")
	end := p.until(r.ID, "the run has ended", func(r recovery.Shown) bool { return !r.Ended.IsZero() })
	if end.Outcome != "done" || k.Values("api.example.eu", "A") != after || !slices.Contains(end.Restored, "web") || len(stepOf(end, "look").Earlier) == 0 {
		t.Errorf("%+v, the name is at %s", end, k.Values("api.example.eu", "A"))
	}
	p.proven(end)
}

func secretOf(t *testing.T, k *dnstest.Knot) string {
	t.Helper()
	text, err := os.ReadFile(k.Provider("mover").Secret.File)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func TestAStepAsksANameServerThatDoesNotAnswerUntilItDoes(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a process")
	}
	t.Parallel()
	p, b, key := movingNames(t, 0)
	door, open := p.door()
	open()
	p.goesBy(fmt.Sprintf(moving, door))
	k := dnstest.Start(t)
	writeKey(t, key, secretOf(t, k))
	b.set(func(bool, []byte) []byte { return nil })
	r := p.starts(p.opens(incident.Begin{Title: "away", Nodes: []string{"old"}, Functions: []string{"web"}}), "move")
	p.goesOn(r.ID, "look")
	p.until(r.ID, "the step asks again", func(r recovery.Shown) bool {
		return slices.ContainsFunc(r.Steps, func(s recovery.StepState) bool {
			return s.Name == "names" && s.State == recovery.Running && s.Progress != nil && strings.HasPrefix(s.Progress.Words, "trying again: ")
		})
	})
	if got := k.Values("api.example.eu", "A"); got != before {
		t.Errorf("the name is at %s", got)
	}
	b.set(func(_ bool, ask []byte) []byte { return passOn(k.Addr, ask) })
	end := p.until(r.ID, "the run has ended", func(r recovery.Shown) bool { return !r.Ended.IsZero() })
	if end.Outcome != "done" || k.Values("api.example.eu", "A") != after {
		t.Errorf("%s, and the name is at %s", end.Outcome, k.Values("api.example.eu", "A"))
	}
	for _, s := range end.Steps {
		if s.Name == "names" && (s.Attempt != 1 || len(s.Said) > 0) {
			t.Errorf("somebody was needed: %+v", s)
		}
	}
}

// In whatever way the name servers refuse, the step says so, nothing has moved
// that is said not to have, and it goes on when they agree.
func TestARecoveryWhoseNameServersRefuseSaysSoAndGoesOnWhenTheyAgree(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a process and waits for servers that do not answer")
	}
	t.Parallel()
	p, b, key := movingNames(t, time.Nanosecond)
	door, open := p.door()
	open()
	p.goesBy(fmt.Sprintf(moving, door))
	forger := base64.StdEncoding.EncodeToString([]byte("another key, which the server has not"))

	for name, c := range map[string]struct {
		// does is what becomes of messages to the server of this case.
		does  func(k *dnstest.Knot, secret string) func(update bool, ask []byte) []byte
		key   string // "": the right one
		state recovery.State
		code  string
		there string // where the name is meanwhile
	}{
		"REFUSED": {func(k *dnstest.Knot, secret string) func(bool, []byte) []byte {
			return func(update bool, ask []byte) []byte {
				if update {
					return signed(t, ask, mdns.RcodeRefused, secret)
				}
				return passOn(k.Addr, ask)
			}
		}, "", recovery.Failed, "dns-refused", before},
		"SERVFAIL": {func(k *dnstest.Knot, secret string) func(bool, []byte) []byte {
			return func(update bool, ask []byte) []byte {
				if update {
					return signed(t, ask, mdns.RcodeServerFailure, secret)
				}
				return passOn(k.Addr, ask)
			}
		}, "", recovery.Failed, "dns-server-failure", before},
		"NOTAUTH with BADSIG": {func(k *dnstest.Knot, _ string) func(bool, []byte) []byte {
			return func(_ bool, ask []byte) []byte { return passOn(k.Addr, ask) }
		}, forger, recovery.Failed, "dns-key-wrong", before},
		"nothing in time": {func(k *dnstest.Knot, _ string) func(bool, []byte) []byte {
			return func(update bool, ask []byte) []byte {
				if update {
					<-t.Context().Done()
					return nil
				}
				return passOn(k.Addr, ask)
			}
		}, "", recovery.Indeterminate, "", before},
		"nothing, and nobody listens": {func(*dnstest.Knot, string) func(bool, []byte) []byte {
			return nil
		}, "", recovery.Failed, "", before},
		"that somebody else has changed the name": {func(k *dnstest.Knot, _ string) func(bool, []byte) []byte {
			var once sync.Once
			return func(update bool, ask []byte) []byte {
				if update {
					once.Do(func() {
						is := dns.Set{Key: dns.Key{Name: "api.example.eu", Type: "A"}, TTL: 60, Values: []string{before}}
						by := dns.Set{Key: is.Key, TTL: 60, Values: []string{"192.0.2.50"}}
						if err := k.Provider("mover").Swap(t.Context(), k.Zone, []dns.Change{{Before: is, After: by}}); err != nil {
							t.Error(err)
						}
					})
				}
				return passOn(k.Addr, ask)
			}
		}, "", recovery.Failed, "dns-lost-race", "192.0.2.50"},
		"nothing after it was done": {func(k *dnstest.Knot, _ string) func(bool, []byte) []byte {
			var mu sync.Mutex
			gone := false
			return func(update bool, ask []byte) []byte {
				mu.Lock()
				defer mu.Unlock()
				if update && !gone {
					gone = true
					passOn(k.Addr, ask)
				}
				if gone {
					return nil
				}
				return passOn(k.Addr, ask)
			}
		}, "", recovery.Indeterminate, "recovery-indeterminate", after},
	} {
		t.Run(name, func(t *testing.T) {
			p := &process{p.Daemon, t, p.who, p.ends}
			k := dnstest.Start(t)
			secret := secretOf(t, k)
			writeKey(t, key, secret)
			if c.key != "" {
				writeKey(t, key, c.key)
			}
			b.set(c.does(k, secret))
			id := p.opens(incident.Begin{Title: name, Nodes: []string{"old"}, Functions: []string{"web"}})
			r := p.starts(id, "move")
			p.goesOn(r.ID, "look") // on a busy machine two looks may take longer than they have
			_, names := p.comesTo(r.ID, "names", c.state)
			if c.state == recovery.Indeterminate && c.there == after && !strings.Contains(names.Words, "nobody could be asked whether it was made") {
				t.Errorf("what is not known is said as %q", names.Words)
			}
			if names.Receipt.Words == "" || c.code != "" && names.Receipt.Code != c.code {
				t.Errorf("it is said to be %+v", names.Receipt)
			}
			if got := k.Values("api.example.eu", "A"); got != c.there {
				t.Errorf("the name is at %s", got)
			}
			t.Logf("%s: %s", names.Receipt.Code, names.Words)

			writeKey(t, key, secret)
			b.set(func(_ bool, ask []byte) []byte { return passOn(k.Addr, ask) })
			p.goesOn(r.ID, "names")
			end := p.until(r.ID, "the run has ended", func(r recovery.Shown) bool { return !r.Ended.IsZero() })
			if end.Outcome != "done" || k.Values("api.example.eu", "A") != after {
				t.Errorf("%s, and the name is at %s", end.Outcome, k.Values("api.example.eu", "A"))
			}
			p.proven(end)
		})
	}
}
