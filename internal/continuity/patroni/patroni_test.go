package patroni

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// recorded is an answer of a real Patroni 3.0.2 with PostgreSQL 15: three
// members, before and after a switchover (TestWhatIsAskedOfPatroni writes them).
func recorded(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// picture is what Patroni had in its store.
func picture(t testing.TB, name string) Picture {
	t.Helper()
	var keys map[string]string
	if err := json.Unmarshal(recorded(t, name), &keys); err != nil {
		t.Fatal(err)
	}
	var p Picture
	for k, v := range keys {
		p.take(strings.TrimPrefix(k, Prefix+DefaultScope+"/"), &mvccpb.KeyValue{Key: []byte(k), Value: []byte(v), Lease: 7, CreateRevision: 9})
	}
	p.settle()
	return p
}

func TestACluster(t *testing.T) {
	c, err := ParseCluster(recorded(t, "steady-leader-cluster-200.json"))
	if err != nil {
		t.Fatal(err)
	}
	l, ok := c.Leader()
	if !ok || l.Name != "node1" || l.Timeline != 1 || l.Port != 39365 || !l.Works() || l.Lag != nil || len(c.Members) != 3 || c.Paused {
		t.Errorf("%+v", c)
	}
	if s, ok := c.Member("node2"); !ok || s.Role != Sync || s.Lag == nil || *s.Lag != 0 {
		t.Errorf("%+v", s)
	}
	c, err = ParseCluster([]byte(`{"members":[{"name":"a","role":"replica","state":"start failed","lag":"unknown","timeline":"","port":"5432"}],"pause":true}`))
	if err != nil || !c.Paused || c.Members[0].Lag != nil || c.Members[0].Works() || c.Members[0].Port != 5432 {
		t.Errorf("%+v, %v", c, err)
	}
	if _, ok := c.Leader(); ok {
		t.Error("a replica leads")
	}
	for _, bad := range []string{"", "[]", "{}", "null", `{"members":3}`, "502 Bad Gateway"} {
		if _, err := ParseCluster([]byte(bad)); err == nil {
			t.Errorf("%q is a cluster", bad)
		}
	}
}

func TestAServer(t *testing.T) {
	for name, want := range map[string]Server{
		"steady-leader-patroni-200.json":            {State: "running", Role: Leader, Timeline: 1, Version: 150018, System: "7711370232866479005", Patroni: "3.0.2", Scope: "foundry", Location: 74066392, SyncTo: 1},
		"handed-over-sync_standby-patroni-200.json": {State: "running", Role: Replica, Timeline: 2, Version: 150018, System: "7711370232866479005", Patroni: "3.0.2", Scope: "foundry", Location: 100663296, IsSync: true},
		"handed-over-sync_standby-leader-503.json":  {State: "running", Role: Replica, Timeline: 2, Version: 150018, System: "7711370232866479005", Patroni: "3.0.2", Scope: "foundry", Location: 100663296, IsSync: true},
		"handed-over-replica-patroni-200.json":      {State: "running", Role: Replica, Timeline: 2, Version: 150018, System: "7711370232866479005", Patroni: "3.0.2", Scope: "foundry", Location: 100663296},
	} {
		if got, err := ParseServer(recorded(t, name)); err != nil || got != want {
			t.Errorf("%s:\n%+v, not\n%+v: %v", name, got, want, err)
		}
	}
	s, err := ParseServer([]byte(`{"state":"running","role":"primary","failsafe_mode_is_active":true,"cluster_unlocked":true}`))
	if err != nil || !s.Failsafe || !s.Unlocked || s.Role != Leader {
		t.Errorf("%+v, %v", s, err)
	}
	for _, bad := range []string{"", "{}", "null", "<html>"} {
		if _, err := ParseServer([]byte(bad)); err == nil {
			t.Errorf("%q is a server", bad)
		}
	}
}

func TestSettings(t *testing.T) {
	s, err := ParseSettings(recorded(t, "steady-leader-config-200.json"))
	if want := (Settings{TTL: 10, LoopWait: 2, Retry: 3, MaxLag: 1 << 20, Sync: true, Strict: true, SyncCount: 1, Failsafe: true}); err != nil || s != want {
		t.Errorf("%+v, %v", s, err)
	}
	s, err = ParseSettings(recorded(t, "lenient-leader-config-200.json"))
	if err != nil || s.Strict || s.Failsafe || !s.Sync {
		t.Errorf("%+v, %v", s, err)
	}
	s, err = ParseSettings([]byte(`{"synchronous_mode":"on","pause":"true"}`))
	if err != nil || s.TTL != 30 || s.LoopWait != 10 || !s.Sync || !s.Paused || s.Strict {
		t.Errorf("%+v, %v", s, err)
	}
	for _, bad := range []string{"", "null", "[]", "3"} {
		if _, err := ParseSettings([]byte(bad)); err == nil {
			t.Errorf("%q is a configuration", bad)
		}
	}
}

func TestWhatIsInTheStore(t *testing.T) {
	p := picture(t, "handed-over-store.json")
	if p.Leader != "node2" || p.SyncOf != "node2" || !slices.Equal(p.Standbys, []string{"node3"}) || p.Timeline != 2 || !p.Known || p.System != "7711370232866479005" || p.TTL() != 10*time.Second {
		t.Errorf("%+v", p)
	}
	roles := ""
	for _, m := range p.Members {
		roles += m.Name + " " + m.Role + " " + m.Host + "\n"
	}
	if want := "node1 replica 127.112.222.26\nnode2 leader 127.112.222.27\nnode3 sync_standby 127.112.222.28\n"; roles != want {
		t.Errorf("%s", roles)
	}
	if !slices.Equal(p.Failsafe, []string{"node1", "node2", "node3"}) {
		t.Error(p.Failsafe)
	}
}

func TestWhichPromisesAClusterKeeps(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Picture)
		broken string
	}{
		{"as it is configured", func(*Picture) {}, ""},
		{"not strict", func(p *Picture) { p.Settings.Strict = false }, "strict"},
		{"not synchronous", func(p *Picture) { p.Settings.Sync = false }, "strict"},
		{"stops without its store", func(p *Picture) { p.Settings.Failsafe = false }, "failsafe"},
		{"Patroni's own timings", func(p *Picture) { p.Settings.TTL, p.Settings.LoopWait, p.Settings.Retry = 30, 10, 10 }, "timings"},
		{"a key that runs out while it is tried again", func(p *Picture) { p.Settings.Retry = 5 }, "timings"},
		{"paused", func(p *Picture) { p.Settings.Paused = true }, "fails-over"},
		{"nobody leads", func(p *Picture) { p.Leader = "" }, "led standby"},
		{"in step with the leader before", func(p *Picture) { p.SyncOf = "node1" }, "standby"},
		{"nobody in step", func(p *Picture) { p.Standbys = nil }, "standby"},
		{"two members", func(p *Picture) { p.Members = p.Members[:2] }, "spare"},
		{"no configuration", func(p *Picture) { p.Settings = nil }, "strict"},
		{"no cluster", func(p *Picture) { p.Known = false }, "cluster"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := picture(t, "handed-over-store.json")
			c.change(&p)
			var broken []string
			for _, f := range Check(&p) {
				if !f.OK {
					broken = append(broken, f.ID)
					if f.Words == "" || f.Mend == "" {
						t.Errorf("%s says nothing", f.ID)
					}
				}
			}
			if got := strings.Join(broken, " "); got != c.broken {
				t.Errorf("%q, not %q", got, c.broken)
			}
			if words(&p, Check(&p)) == "" {
				t.Error("no words")
			}
		})
	}
}

func TestTheConfigurationOfANode(t *testing.T) {
	n := Node{Name: "node-1", Address: "10.0.0.1", Dir: "/etc/patroni", Data: "/var/lib/postgresql/foundry", Stores: []string{"10.0.0.1:8494", "10.0.0.2:8494"}, Networks: []string{"10.0.0.0/24"}, Secrets: NewSecrets()}
	text, err := n.Config()
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Scope, Namespace, Name string
		Etcd3                  struct {
			Protocol, Cacert, Cert, Key string
			Hosts                       []string
		}
		Restapi struct {
			VerifyClient   string `yaml:"verify_client"`
			Authentication map[string]string
		}
		Bootstrap  struct{ DCS map[string]any }
		Postgresql struct {
			Listen         string
			Authentication map[string]map[string]string
			Parameters     map[string]string
			PgHBA          []string `yaml:"pg_hba"`
		}
	}
	if err := yaml.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	s, err := ParseSettings(asJSON(t, c.Bootstrap.DCS))
	if err != nil || !s.Sync || !s.Strict || !s.Failsafe || s.TTL < s.LoopWait+2*s.Retry {
		t.Errorf("%+v, %v", s, err)
	}
	if c.Namespace != Prefix || c.Scope != DefaultScope || c.Etcd3.Protocol != "https" || len(c.Etcd3.Hosts) != 2 || c.Restapi.VerifyClient != "required" || c.Restapi.Authentication["password"] != n.Secrets.API {
		t.Errorf("%+v", c)
	}
	a := c.Postgresql.Authentication
	if a["superuser"]["password"] != "" || a["replication"]["sslmode"] != "verify-full" || a["rewind"]["sslmode"] != "verify-full" || a["rewind"]["password"] != n.Secrets.Rewind || a["rewind"]["username"] == "postgres" {
		t.Errorf("%+v", a)
	}
	if p := c.Postgresql.Parameters; p["ssl_min_protocol_version"] != "TLSv1.3" || p["ssl"] != "on" || p["wal_retrieve_retry_interval"] != "1s" || c.Postgresql.Listen != "10.0.0.1:5432" {
		t.Errorf("%+v", c.Postgresql)
	}
	for _, line := range c.Postgresql.PgHBA {
		f := strings.Fields(line)
		remote := f[0] == "hostssl" && strings.Contains(line, "scram-sha-256") && f[3] == "10.0.0.0/24" && !strings.Contains(f[2], "postgres") && f[2] != "all"
		if !remote && line != "local all postgres peer" {
			t.Errorf("lets in by %q", line)
		}
	}
	for name, change := range map[string]func(*Node){
		"no address": func(n *Node) { n.Address = "" }, "everywhere": func(n *Node) { n.Address = "0.0.0.0" }, "a line in the path": func(n *Node) { n.Dir = "/etc\nx: y" }, "a path from here": func(n *Node) { n.Data = "data" },
		"no store": func(n *Node) { n.Stores = nil }, "no network": func(n *Node) { n.Networks = []string{"all"} }, "another scope": func(n *Node) { n.Scope = "../x" }, "one port": func(n *Node) { n.APIPort = 5432 },
	} {
		m := n
		change(&m)
		if _, err := m.Config(); err == nil {
			t.Errorf("%s was written", name)
		}
	}
}

func asJSON(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func FuzzAnswers(f *testing.F) {
	all, _ := filepath.Glob("testdata/*.json")
	for _, name := range all {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`[[1,2,"x"],[],["a"],[1e300]]`))
	f.Add([]byte(`{"leader":"a","sync_standby":"b, ,c"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if c, err := ParseCluster(text); err == nil {
			for _, m := range c.Members {
				if m.Timeline < 0 || m.Lag != nil && *m.Lag < 0 {
					t.Errorf("%+v", m)
				}
			}
		}
		_, _ = ParseServer(text)
		_, _ = ParseSettings(text)
		var p Picture
		for _, key := range []string{"leader", "config", "sync", "failsafe", "history", "members/a", "initialize"} {
			p.take(key, &mvccpb.KeyValue{Value: text})
		}
		p.settle()
		if len(Check(&p)) == 0 || p.Timeline < 0 {
			t.Errorf("%+v", p)
		}
	})
}
