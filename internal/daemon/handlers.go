package daemon

import (
	"context"
	"encoding/json"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sys/unix"
)

// hsts tells browsers to use HTTPS only, for a year (RFC 6797).
var hsts = []string{"max-age=31536000"}

var closing = []string{"close"}

// public answers clients: the model endpoints first, because they are the hot
// path, then health, metrics and the console. direct is true for the TLS
// listener and false behind a reverse proxy, where every peer is local and
// metrics would be open to the world.
func (d *Daemon) public(direct bool) http.Handler {
	metrics := d.metrics()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Strict-Transport-Security"] = hsts
		if len(r.TransferEncoding) > 0 {
			// A message with both lengths must end its connection (RFC 9112,
			// 6.3), because a proxy in front may have read the other one.
			// net/http reads it as chunked and hides that there were two.
			w.Header()["Connection"] = closing
		}
		path := r.URL.Path
		switch {
		case strings.HasPrefix(path, "/v1/"):
			d.gateway.ServeHTTP(w, r)
			return
		case !direct:
			forwarded(r)
		}
		switch {
		case strings.HasPrefix(path, "/api/v1/"):
			d.api.ServePublic(w, r)
		case path == "/healthz":
			d.healthz(w, r)
		case path == "/readyz":
			d.readyz(w, r)
		case path == "/metrics" && direct && loopback(r.RemoteAddr):
			metrics.ServeHTTP(w, r)
		case d.console != nil:
			d.console.ServeHTTP(w, r)
		default:
			problem.Write(w, problem.New(problem.NotFound, "path-unknown", "There is nothing here."))
		}
	})
}

// forwarded takes the client's address from what the reverse proxy in front
// says: the last address of X-Forwarded-For, which the proxy itself added. What
// stands before it may be the client's invention.
func forwarded(r *http.Request) {
	values := r.Header.Values("X-Forwarded-For")
	if len(values) == 0 {
		r.RemoteAddr = ""
		return
	}
	last := values[len(values)-1]
	ip, err := netip.ParseAddr(strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:]))
	if err != nil {
		r.RemoteAddr = ""
		return
	}
	r.RemoteAddr = netip.AddrPortFrom(ip.Unmap().WithZone(""), 0).String()
}

func loopback(remote string) bool {
	host, _, err := net.SplitHostPort(remote)
	ip := net.ParseIP(host)
	return err == nil && ip != nil && ip.IsLoopback()
}

func (d *Daemon) metrics() http.Handler {
	return promhttp.HandlerFor(d.registry, promhttp.HandlerOpts{})
}

// redirect sends browsers and SDKs to HTTPS with 308, which keeps the method
// (RFC 9110). The target host is the configured one or, by default, the one
// that was asked for: never anything else that the client says.
func (d *Daemon) redirect() http.Handler {
	_, port, _ := net.SplitHostPort(d.httpsAddress())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		target := d.config.Listen.PublicURL
		if target == "" {
			host, _, err := net.SplitHostPort(r.Host)
			if err != nil {
				host = r.Host
			}
			if !plainHost(host) {
				problem.Write(w, problem.New(problem.Invalid, "host", "The Host header is not a host name."))
				return
			}
			target = "https://" + net.JoinHostPort(strings.Trim(host, "[]"), port)
		}
		w.Header().Set("Location", strings.TrimSuffix(target, "/")+r.URL.RequestURI())
		w.WriteHeader(http.StatusPermanentRedirect)
	})
}

func plainHost(host string) bool {
	host = strings.Trim(host, "[]")
	if net.ParseIP(host) != nil {
		return true
	}
	return host != "" && len(host) <= 253 && strings.Trim(strings.ToLower(host), "abcdefghijklmnopqrstuvwxyz0123456789.-_") == ""
}

// healthz says that the process answers.
func (d *Daemon) healthz(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"status": "ok", "version": d.version})
}

// Readiness is what a load balancer or an operator asks before sending work here.
type Readiness struct {
	Status      string        `json:"status"` // ready, degraded or unready
	Database    bool          `json:"database"`
	SnapshotAge time.Duration `json:"snapshot_age_ns"`
	Queue       uint64        `json:"journal_queue"` // events not shipped yet
	Journal     string        `json:"journal"`       // ok, or why it refuses
	Authority   string        `json:"authority"`     // ok, or which other gateways clients do not trust with this one, and the mend
}

// ready says whether requests can be answered: not whether everything is well.
// A lost database is degraded, not unready, as long as keys may be trusted.
func (d *Daemon) ready() Readiness {
	q := d.shipper.Queue()
	r := Readiness{Status: "ready", Database: d.db.Healthy(), SnapshotAge: d.gateway.Age(), Queue: q.Events, Journal: "ok", Authority: "ok"}
	if !r.Database {
		r.Status = "degraded"
	}
	if r.SnapshotAge > d.gateway.SnapshotLimit() {
		r.Status = "unready"
	}
	if nodes := d.gateways.Differ(); len(nodes) > 0 {
		r.Authority = authorityWords(nodes) // whoever trusts this node's is answered
	}
	if err := d.journal.Stats().Failure; err != nil {
		r.Status, r.Journal = "unready", problem.From(err).Code
	}
	return r
}

func (d *Daemon) readyz(w http.ResponseWriter, _ *http.Request) {
	r := d.ready()
	status := http.StatusOK
	if r.Status == "unready" {
		status = http.StatusServiceUnavailable
	}
	writeJSON(w, status, r)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		problem.Write(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}

type peerKey struct{}

// peerContext finds out which user is at the other end of the local socket
// (SO_PEERCRED, unix(7)).
func peerContext(ctx context.Context, c net.Conn) context.Context {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	_ = raw.Control(func(fd uintptr) { cred, _ = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if cred == nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, principal.Principal{Kind: principal.Local, UID: int(cred.Uid)})
}

// local answers the command line: the admin API, and metrics. Whoever is at
// the other end is known by user id, or is nobody.
func (d *Daemon) local() http.Handler {
	metrics := d.metrics()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, ok := r.Context().Value(peerKey{}).(principal.Principal)
		if !ok {
			problem.Write(w, problem.New(problem.Unauthenticated, "peer-unknown", "The caller's user id could not be read."))
			return
		}
		may := func(action policy.Action, next http.Handler) {
			if err := d.guard.Authorise(r.Context(), p, action, policy.Resource{}); err != nil {
				problem.Write(w, err)
				return
			}
			next.ServeHTTP(w, r)
		}
		switch r.URL.Path {
		case "/metrics":
			may("status.read", metrics)
		case "/healthz":
			d.healthz(w, r)
		case "/readyz":
			d.readyz(w, r)
		case "/debug/profile":
			may("profile.take", http.HandlerFunc(d.profile))
		default:
			p, err := d.behindGlass(r, p)
			if err != nil {
				problem.Write(w, err)
				return
			}
			d.api.Serve(w, r, p)
		}
	})
}

// longestProfile bounds how long a profile may run.
const longestProfile = 2 * time.Minute

// profile answers with a CPU profile of the next seconds, or with the heap as
// it is (runtime/pprof). It shows code, never data, and only to the local
// socket.
func (d *Daemon) profile(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	if r.URL.Query().Get("kind") == "heap" {
		runtime.GC()
		_ = pprof.WriteHeapProfile(w)
		return
	}
	span, err := time.ParseDuration(r.URL.Query().Get("for"))
	if err != nil || span <= 0 || span > longestProfile {
		problem.Write(w, problem.New(problem.Invalid, "profile-span", "A profile takes up to two minutes.").WithField("for").WithMend("Use for example for=10s."))
		return
	}
	if err := pprof.StartCPUProfile(w); err != nil {
		problem.Write(w, problem.New(problem.Conflict, "profile-running", "A profile is being taken already."))
		return
	}
	defer pprof.StopCPUProfile()
	select {
	case <-time.After(span):
	case <-r.Context().Done():
	}
}

// quietLog takes what net/http complains about (mostly TLS handshakes of
// scanners) into the structured log, at debug level.
func quietLog(l *slog.Logger) *log.Logger {
	return slog.NewLogLogger(l.Handler(), slog.LevelDebug)
}

func (d *Daemon) certificates() *certificates {
	c := &certificates{issuer: d.authority, names: serverNames(d.config.Listen.HTTPS, d.config.TLS.Names), now: d.clock, log: d.log}
	if d.config.TLS.Certificate != "" {
		key, _ := d.config.TLS.Key.Path("tls.key")
		c.own = [2]string{d.config.TLS.Certificate, key}
	}
	return c
}
