package dns_test

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/continuity/dns"
	"github.com/missionopsai/foundry/internal/continuity/dns/dnstest"
	"github.com/missionopsai/foundry/internal/continuity/dns/hetznersim"
)

func TestANameServerDoesWhatProvidersMustDo(t *testing.T) {
	dnstest.Suite(t, func(t *testing.T) dnstest.World {
		k := dnstest.Start(t)
		return dnstest.World{Provider: k.Provider("mover"), Zone: k.Zone}
	})
}

func TestHetznersInterfaceDoesWhatProvidersMustDo(t *testing.T) {
	dnstest.Suite(t, func(t *testing.T) dnstest.World {
		h, _ := simulated(t)
		return dnstest.World{Provider: h, Zone: "example.eu"}
	})
}

// simulated is a provider before a simulator that holds what a World needs.
func simulated(t *testing.T) (*dns.Hetzner, *hetznersim.Simulator) {
	t.Helper()
	sim := hetznersim.New("example.eu", "token-of-the-test", 1)
	s := httptest.NewTLSServer(sim)
	t.Cleanup(s.Close)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("token-of-the-test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := &dns.Hetzner{Endpoint: s.URL + "/v1", Token: config.Secret{File: file}, Client: s.Client(), Timeout: time.Minute, Poll: time.Millisecond}
	was := dns.Set{Key: dns.Key{Name: "api.example.eu", Type: "A"}, TTL: 60, Values: []string{"192.0.2.1"}}
	if err := h.Swap(t.Context(), "example.eu", []dns.Change{{Before: dns.Set{Key: was.Key}, After: was}}); err != nil {
		t.Fatal(err)
	}
	return h, sim
}
