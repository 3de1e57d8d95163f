package backup

import (
	"strconv"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/backup/targettest"
)

// A server that goes is found by the second look, half a minute after it went
// at the latest, and one that is back by the first.
func TestAServerThatGoesIsToldWithinAMinute(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) (target.Target, *targettest.Proxy){
		"bucket": func(t *testing.T) (target.Target, *targettest.Proxy) {
			server := targettest.StartS3(t)
			server.Bucket(t, "backups")
			proxy := targettest.StartProxy(t, server.Endpoint)
			at := server.Open(t, "one", "backups")
			at.S3.Endpoint = proxy.Addr
			return at, proxy
		},
		"sftp": func(t *testing.T) (target.Target, *targettest.Proxy) {
			server := targettest.StartSSH(t)
			proxy := targettest.StartProxy(t, "127.0.0.1:"+strconv.Itoa(server.Port))
			at := server.Open(t, "one")
			at.SFTP.Port, at.SFTP.KnownHosts = proxy.Port, server.KnownAt(t, proxy.Port) // its directory is made by the first backup
			return at, proxy
		},
	} {
		t.Run(name, func(t *testing.T) {
			at, proxy := start(t)
			h := newHouse(t, func(h *house, o *Options) { h.target, o.Targets = at, []target.Target{at} })
			now := time.Now()
			h.now = func() time.Time { return now }
			look := func(later time.Duration) TargetStatus {
				t.Helper()
				now = now.Add(later)
				for range 2 { // what the first begins, the second tells
					if err := h.b.watch(t.Context()); err != nil {
						t.Fatal(err)
					}
					h.work.Wait()
				}
				return h.status().Targets[0]
			}
			if s := look(0); !s.Reachable || s.Failure != "" {
				t.Fatalf("a server that runs: %+v", s)
			}
			proxy.Refuse()
			if s := look(reachEvery / 2); !s.Reachable {
				t.Errorf("looked at before it was due: %+v", s)
			}
			if h.alarms.has("backup-target-failing") {
				t.Fatal("people are told before anybody looked")
			}
			s := look(reachEvery / 2)
			if s.Reachable || s.Failure == "" || h.b.unanswered("one") == nil {
				t.Errorf("half a minute after it went: %+v", s)
			}
			look(0)
			if !h.alarms.has("backup-target-failing.one") {
				t.Errorf("nobody is told: %v", h.alarms.said)
			}
			proxy.Heal()
			if s := look(reachEvery); !s.Reachable || s.Failure != "" {
				t.Errorf("back again: %+v", s)
			}
		})
	}
}

// One look that fails is nothing to wake people for.
func TestOneLookThatFailsIsTriedAgainFirst(t *testing.T) {
	server := targettest.StartS3(t)
	server.Bucket(t, "backups")
	proxy := targettest.StartProxy(t, server.Endpoint)
	at := server.Open(t, "one", "backups")
	at.S3.Endpoint = proxy.Addr
	h := newHouse(t, func(h *house, o *Options) { h.target, o.Targets = at, []target.Target{at} })
	proxy.Refuse()
	h.b.watchServers(t.Context())
	h.work.Wait()
	if h.b.unanswered("one") != nil || h.b.reached["one"].failed != 1 {
		t.Errorf("after one look: %+v", h.b.reached["one"])
	}
	proxy.Heal()
	h.b.watchServers(t.Context())
	h.work.Wait()
	if h.b.reached["one"].failed != 0 {
		t.Errorf("after the next: %+v", h.b.reached["one"])
	}
}
