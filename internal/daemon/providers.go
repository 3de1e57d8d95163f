package daemon

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/gateway"
)

// findProviders is what a node without configured providers offers: an Ollama
// on this machine if one answers, and the built-in simulator.
func findProviders(ctx context.Context, country string) []gateway.ProviderConfig {
	var out []gateway.ProviderConfig
	yes := true
	if base := ollamaURL(os.Getenv("OLLAMA_HOST")); base != "" && answers(ctx, base) {
		own := local(base)
		out = append(out, gateway.ProviderConfig{Name: "ollama", Kind: string(gateway.Ollama), BaseURL: base, Own: &own, Discover: &yes})
	}
	return append(out, gateway.ProviderConfig{Name: "simulator", Kind: string(gateway.SimulatorKind), Own: &yes, Discover: &yes})
}

// homeFacts states for the fleet's own models what is known without being
// told: they are where this node is. An Ollama at a loopback address is the
// fleet's own unless the file says otherwise.
func homeFacts(p *gateway.ProviderConfig, country string) {
	if p.Own == nil && p.Kind == string(gateway.Ollama) {
		own := p.BaseURL == "" || local(p.BaseURL) || p.Node != ""
		p.Own = &own
	}
	if p.Node != "" && !local(p.BaseURL) {
		return // it stands somewhere else: the file has to say where
	}
	if p.Kind == string(gateway.SimulatorKind) || p.Own != nil && *p.Own {
		if p.Controller == "" {
			p.Controller = country
		}
		if len(p.Processing) == 0 {
			p.Processing = []string{country}
		}
	}
}

// ollamaURL reads OLLAMA_HOST the way Ollama does: host, host:port or a URL;
// port 11434 unless stated. 0.0.0.0 as a server's address means loopback to a
// client.
func ollamaURL(host string) string {
	if host == "" {
		return "http://127.0.0.1:11434"
	}
	if !strings.Contains(host, "://") {
		host = "http://" + host
	}
	u, err := url.Parse(host)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = "11434"
		if u.Scheme == "https" {
			port = "443"
		}
	}
	name := u.Hostname()
	if ip := net.ParseIP(name); ip != nil && ip.IsUnspecified() {
		name = "127.0.0.1"
	}
	return u.Scheme + "://" + net.JoinHostPort(name, port)
}

func local(base string) bool {
	u, err := url.Parse(base)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// answers reports whether an Ollama is there, without waiting long.
func answers(ctx context.Context, base string) bool {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/version", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
