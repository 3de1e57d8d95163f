package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/db/dbtest"
)

func TestAFencedNodeAnswersThatItIsAndDoesNothing(t *testing.T) {
	dir := dbtest.Dir(t)
	if err := os.WriteFile(backup.FenceFile(dir), []byte(`{"reason":"This node was recovered.","mend":"Activate it."}`), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Start(t.Context(), Options{Config: Config{DataDir: dir, Listen: ListenConfig{HTTPS: "127.0.0.1:0", HTTP: "off"}}, Log: dbtest.Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	if d.Fence() == nil {
		t.Fatal("it works")
	}
	authority, err := os.ReadFile(AuthorityFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer client.CloseIdleConnections()
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503, "/v1/models": 503, "/api/v1/status": 503, "/": 503, "/metrics": 503} {
		resp, err := client.Get(d.URL() + path)
		if err != nil {
			t.Fatal(err)
		}
		var said struct{ Status, Code, Detail, Mend string }
		var raw map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&raw); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		_ = resp.Body.Close()
		body, _ := json.Marshal(raw)
		if raw["status"] != "fenced" { // of a problem it is the number
			delete(raw, "status")
			body, _ = json.Marshal(raw)
		}
		if err := json.Unmarshal(body, &said); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != want || path == "/healthz" && said.Status != "fenced" || path != "/healthz" && (said.Code != "node-fenced" || said.Mend == "") {
			t.Errorf("%s: %d %+v", path, resp.StatusCode, said)
		}
	}
	for _, made := range []string{"postgres", "journal", "node.json", "snapshot.sealed"} {
		if _, err := os.Lstat(filepath.Join(dir, made)); err == nil {
			t.Errorf("it made %s", made)
		}
	}
}
