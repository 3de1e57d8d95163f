package patroni_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/patroni"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// house is a fleet of one with a door for Patroni.
type house struct {
	t     *testing.T
	fleet *membertest.Fleet
	m     *member.Member
	door  string
	roots *x509.CertPool
}

func open(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, fleet: membertest.Start(t, 1), roots: x509.NewCertPool()}
	h.m = h.fleet.Members[0]
	at := membertest.Free(t, 1)[0]
	host, _, _ := net.SplitHostPort(at)
	c, err := h.m.ServiceTLS(patroni.Service, []string{host})
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", at, c)
	if err != nil {
		t.Fatal(err)
	}
	d := &patroni.Door{Client: h.m.Client(), Scope: "foundry", Doors: func(context.Context) ([]string, error) { return []string{at}, nil },
		Who: func(cs *tls.ConnectionState) (string, bool) {
			s, ok := h.m.Service(cs)
			return s.Node, ok && s.Name == patroni.Service
		}}
	s := &http.Server{Handler: d.Handler(), ReadHeaderTimeout: time.Minute}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	h.door = "https://" + at
	return h
}

// as is a client with a certificate that the fleet made for a program.
func (h *house) as(s member.Service) *http.Client {
	h.t.Helper()
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: h.config(s)}}
}

func (h *house) config(s member.Service) *tls.Config {
	h.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		h.t.Fatal(err)
	}
	cert, authority, err := h.m.Issue(h.t.Context(), "person:test", s, key.Public(), []string{"127.0.0.1"})
	if err != nil {
		h.t.Fatal(err)
	}
	h.roots.AppendCertsFromPEM(authority)
	der, _ := x509.MarshalPKCS8PrivateKey(key)
	pair, err := tls.X509KeyPair(cert, pemOf(der))
	if err != nil {
		h.t.Fatal(err)
	}
	return &tls.Config{RootCAs: h.roots, Certificates: []tls.Certificate{pair}}
}

func (h *house) ask(c *http.Client, path string, body any) (int, map[string]any) {
	h.t.Helper()
	text, _ := json.Marshal(body)
	a, err := c.Post(h.door+path, "application/json", bytes.NewReader(text))
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = a.Body.Close() }()
	out := map[string]any{}
	all, _ := io.ReadAll(a.Body)
	if err := json.Unmarshal(all, &out); err != nil {
		h.t.Fatalf("%s: %s", path, all)
	}
	return a.StatusCode, out
}

type o = map[string]any

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

const base = "/service/foundry/"

// lease takes one for a node.
func (h *house) lease(c *http.Client) string {
	h.t.Helper()
	status, a := h.ask(c, "/v3/lease/grant", o{"TTL": 60})
	id, ok := a["ID"].(string)
	if status != 200 || !ok {
		h.t.Fatal(status, a)
	}
	return id
}

func TestThePatroniOfANodeWritesItsOwnKeysAndSeesNoOthers(t *testing.T) {
	h := open(t)
	one, two := h.as(member.Service{Name: "patroni", Node: "node1"}), h.as(member.Service{Name: "patroni", Node: "node1"})
	mine := h.lease(one)
	if _, err := h.m.Store().Put(t.Context(), "secret", "of the fleet"); err != nil {
		t.Fatal(err)
	}
	// A lease that the fleet itself has, and one of a Patroni elsewhere.
	fleets, err := h.m.Client().Grant(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	others, err := h.m.Client().Grant(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.m.Client().Put(t.Context(), "/services/patroni-leases/foundry/node2/"+hex(others.ID), "", clientv3.WithLease(others.ID)); err != nil {
		t.Fatal(err)
	}
	put := func(key, value, lease string) o {
		q := o{"key": b64(key), "value": b64(value)}
		if lease != "" {
			q["lease"] = lease
		}
		return q
	}
	unless := func(q o) o {
		return o{"compare": []o{{"target": "CREATE", "create_revision": 0, "key": q["key"]}}, "success": []o{{"request_put": q}}}
	}
	all := b64(base)
	end := b64("/service/foundry0")
	for _, c := range []struct {
		name, path string
		body       any
		status     int
	}{
		{"reads its cluster", "/v3/kv/range", o{"key": all, "range_end": end, "serializable": true}, 200},
		{"writes its own member", "/v3/kv/put", put(base+"members/node1", "{}", mine), 200},
		{"takes the leader's key for itself", "/v3/kv/txn", unless(put(base+"leader", "node1", mine)), 200},
		{"writes what all share", "/v3/kv/put", put(base+"config", "{}", ""), 200},
		{"removes one key", "/v3/kv/deleterange", o{"key": b64(base + "failover")}, 200},
		{"keeps its lease", "/v3/lease/keepalive", o{"ID": mine}, 200},

		{"reads the fleet", "/v3/kv/range", o{"key": b64("/foundry/1/"), "range_end": b64("/foundry/10")}, 403},
		{"reads everything", "/v3/kv/range", o{"key": b64("\x00"), "range_end": b64("\x00")}, 403},
		{"reads from its keys to the end", "/v3/kv/range", o{"key": all, "range_end": b64("\x00")}, 403},
		{"reads beyond its keys", "/v3/kv/range", o{"key": all, "range_end": b64("/service/g")}, 403},
		{"reads another cluster", "/v3/kv/range", o{"key": b64("/service/other/leader")}, 403},
		{"reads a cluster whose name goes on", "/v3/kv/range", o{"key": b64("/service/foundry2/leader")}, 403},
		{"reads whose leases are whose", "/v3/kv/range", o{"key": b64("/services/patroni-leases/"), "range_end": b64("/services/patroni-leases0")}, 403},
		{"compares with a key of the fleet", "/v3/kv/txn", o{"compare": []o{{"target": "MOD", "mod_revision": 0, "key": b64("/foundry/1/secret")}}, "success": []o{{"request_put": put(base+"config", "x", "")}}}, 403},
		{"watches the fleet", "/v3/watch", o{"create_request": o{"key": b64("/foundry/1/"), "range_end": b64("/foundry/10")}}, 403},
		{"writes into the fleet", "/v3/kv/put", put("/foundry/1/secret", "x", ""), 403},
		{"writes in a transaction into the fleet", "/v3/kv/txn", o{"compare": []o{{"target": "CREATE", "create_revision": 0, "key": b64(base + "x")}}, "success": []o{{"request_put": put("/foundry/1/x", "x", "")}}}, 403},
		{"gives itself a lease's mark", "/v3/kv/put", put("/services/patroni-leases/foundry/node1/1", "", ""), 403},
		{"writes for another member", "/v3/kv/put", put(base+"members/node2", "{}", mine), 403},
		{"makes another the leader", "/v3/kv/put", put(base+"leader", "node2", mine), 403},
		{"leads for ever", "/v3/kv/put", put(base+"leader", "node1", ""), 403},
		{"writes a key that Patroni has not", "/v3/kv/put", put(base+"more", "x", ""), 403},
		{"removes another member", "/v3/kv/deleterange", o{"key": b64(base + "members/node2")}, 403},
		{"removes the cluster", "/v3/kv/deleterange", o{"key": all, "range_end": end}, 403},
		{"removes the fleet", "/v3/kv/deleterange", o{"key": b64("/foundry/1/"), "range_end": b64("/foundry/10")}, 403},
		{"writes under the fleet's lease", "/v3/kv/put", put(base+"members/node1", "{}", dec(fleets.ID)), 404},
		{"writes under another's lease", "/v3/kv/put", put(base+"members/node1", "{}", dec(others.ID)), 404},
		{"takes a lease for ever", "/v3/lease/grant", o{"TTL": 1 << 40}, 400},
		{"asks what Patroni does not", "/v3/kv/range", o{"key": all, "keys_only": true}, 400},
		{"puts two things into a transaction", "/v3/kv/txn", o{"compare": []o{{"target": "CREATE", "create_revision": 0, "key": b64(base + "x")}}, "success": []o{{"request_put": put(base+"config", "x", "")}, {"request_put": put(base+"config", "y", "")}}}, 400},
		{"writes where it was not so", "/v3/kv/txn", o{"compare": []o{}, "success": []o{{"request_put": put(base+"config", "x", "")}}, "failure": []o{{"request_put": put("/foundry/1/x", "x", "")}}}, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, a := h.ask(one, c.path, c.body)
			if status != c.status {
				t.Errorf("%d, not %d: %v", status, c.status, a)
			}
			if status >= 400 && (a["error"] == nil || a["code"] == nil) {
				t.Errorf("not as etcd says it: %v", a)
			}
		})
	}
	for name, id := range map[string]clientv3.LeaseID{"the fleet's": fleets.ID, "another's": others.ID} {
		_, a := h.ask(one, "/v3/lease/keepalive", o{"ID": dec(id)})
		if r, _ := a["result"].(o); r == nil || r["TTL"] != nil {
			t.Errorf("%s lease was kept: %v", name, a)
		}
	}
	if e, err := h.m.Store().Get(t.Context(), "secret"); err != nil {
		t.Error(e, err)
	}
	// The same lease under another certificate of the same node is the node's
	// still: a Patroni that was configured anew keeps its place.
	if _, a := h.ask(two, "/v3/lease/keepalive", o{"ID": mine}); a["result"].(o)["TTL"] == nil {
		t.Errorf("a renewed certificate lost the lease: %v", a)
	}
	for n := 0; ; n++ {
		status, _ := h.ask(one, "/v3/lease/grant", o{"TTL": 60})
		if status == http.StatusTooManyRequests {
			break
		}
		if status != 200 || n > 100 {
			t.Fatalf("lease %d: %d", n, status)
		}
	}
}

func TestACertificateOfPatroniOpensNoOtherDoorOfTheFleet(t *testing.T) {
	h := open(t)
	c := h.config(member.Service{Name: "patroni", Node: "node1"})
	a := h.fleet.Options[0].Listen
	for name, at := range map[string]string{"clients": a.Clients, "peers": a.Peers, "join": a.Join} {
		c := c.Clone()
		c.ServerName = "member.fleet.foundry"
		if name == "clients" {
			e, err := clientv3.New(clientv3.Config{Endpoints: []string{"https://" + at}, TLS: c, DialOptions: []grpc.DialOption{grpc.WithAuthority(c.ServerName)}})
			if err != nil {
				t.Fatal(err)
			}
			one, cancel := context.WithTimeout(t.Context(), time.Minute)
			_, err = e.Get(one, "/service/", clientv3.WithPrefix())
			cancel()
			if err == nil || !strings.Contains(err.Error(), "foundry: ") {
				t.Errorf("etcd answered: %v", err)
			}
			_ = e.Close()
			continue
		}
		c.NextProtos = []string{"http/1.1"}
		client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}}
		if a, err := client.Get("https://" + at + "/members"); err == nil {
			_ = a.Body.Close()
			t.Errorf("%s answered: %s", name, a.Status)
		}
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", h.m.ServerTLS())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if conn, err := l.Accept(); err == nil {
			if err := conn.(*tls.Conn).Handshake(); err == nil {
				t.Error("a listener for nodes let a program in")
			}
			_ = conn.Close()
		}
	}()
	c.ServerName = "node1.node.fleet.foundry"
	if conn, err := tls.Dial("tcp", l.Addr().String(), c); err == nil {
		_, _ = conn.Read(make([]byte, 1)) // until the other side has looked at the certificate
		_ = conn.Close()
	}
}

func TestTheDoorIsForPatroniOfThisFleetOnly(t *testing.T) {
	h := open(t)
	h.config(member.Service{Name: "patroni", Node: "node1"})
	for name, c := range map[string]*tls.Config{
		"another program": h.config(member.Service{Name: "other", Node: "node1"}),
		"a node":          h.m.ClientTLS("node1"),
		"nobody":          {RootCAs: h.roots},
		"old TLS": func() *tls.Config {
			c := h.config(member.Service{Name: "patroni", Node: "node1"})
			c.MaxVersion = tls.VersionTLS12
			return c
		}(),
	} {
		c.VerifyConnection, c.RootCAs, c.ServerName = nil, h.roots, ""
		client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}}
		if a, err := client.Get(h.door + "/version"); err == nil {
			_ = a.Body.Close()
			t.Errorf("%s was answered: %s", name, a.Status)
		}
	}
	for _, host := range []string{"member.fleet.foundry", "x.node.fleet.foundry", "MEMBER.fleet.FOUNDRY", "fleet.foundry", "0.0.0.0", "a b", "*", ""} {
		key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if _, _, err := h.m.Issue(t.Context(), "person:test", member.Service{Name: "patroni", Node: "node1"}, key.Public(), []string{host}); err == nil && host != "fleet.foundry" {
			t.Errorf("a certificate for %q was made", host)
		}
	}
}

func TestAWatchTellsWhatChangesAndEndsWithTheCertificate(t *testing.T) {
	h := open(t)
	joins := membertest.Options(t, "node2", member.Gateway)
	h.fleet.Join(t, 0, joins)
	c := h.as(member.Service{Name: "patroni", Node: "node2"})
	text, _ := json.Marshal(o{"create_request": o{"key": b64(base), "range_end": b64("/service/foundry0"), "filters": []any{}, "start_revision": "1"}})
	a, err := c.Post(h.door+"/v3/watch", "application/json", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Body.Close() }()
	in := json.NewDecoder(a.Body)
	next := func() o {
		var m o
		if err := in.Decode(&m); err != nil {
			return nil
		}
		r, _ := m["result"].(o)
		return r
	}
	if m := next(); m["created"] != true {
		t.Fatal(m)
	}
	h.ask(c, "/v3/kv/put", o{"key": b64(base + "config"), "value": b64("{}")})
	if e := next()["events"].([]any)[0].(o); e["kv"].(o)["key"] != b64(base+"config") || e["type"] != nil {
		t.Error(e)
	}
	h.ask(c, "/v3/kv/deleterange", o{"key": b64(base + "config")})
	if e := next()["events"].([]any)[0].(o); e["type"] != "DELETE" {
		t.Error(e)
	}
	if err := h.m.Remove(t.Context(), "person:test", "node2"); err != nil {
		t.Fatal(err)
	}
	for next() != nil { // what changed until then
	}
	if status, _ := h.ask(c, "/v3/kv/range", o{"key": b64(base + "leader")}); status != http.StatusForbidden {
		t.Errorf("the Patroni of a removed node is answered: %d", status)
	}
}
