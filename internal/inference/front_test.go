package inference

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/gateway/simulator"
	"github.com/missionopsai/foundry/internal/problem"
)

func TestOnlyNodesWithACertificateOfTheFleetAreAnswered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) {
		o.Config.Clients = []string{"gateway-1", "gateway-2", "gateway-removed"}
		o.TLS.Verify = func(peer *x509.Certificate) error {
			if peer.Subject.CommonName == "gateway-removed" {
				return errors.New("it was removed from the fleet")
			}
			return nil
		}
	})
	other := newAuthority(t)
	for _, test := range []struct {
		name string
		cert *tls.Certificate
		ok   bool
	}{
		{"a gateway", w.authority.issue(t, "gateway-1", nil), true},
		{"another gateway", w.authority.issue(t, "gateway-2", nil), true},
		{"nobody", nil, false},
		{"a node with another role", w.authority.issue(t, "witness-1", nil), false},
		{"a gateway that was removed", w.authority.issue(t, "gateway-removed", nil), false},
		{"a gateway of another fleet", other.issue(t, "gateway-1", nil), false},
		{"a certificate that ended", w.authority.issue(t, "gateway-1", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), false},
		{"a certificate for servers only", w.authority.issue(t, "gateway-1", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), false},
	} {
		resp, err := w.client(t, test.cert).Get(w.url + "/v1/models")
		if err == nil {
			_ = resp.Body.Close()
		}
		if ok := err == nil && resp.StatusCode == http.StatusOK; ok != test.ok {
			t.Errorf("%s: answered %t, %v", test.name, ok, err)
		}
	}
}

func TestNothingOlderThanTLS13IsSpoken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	cert := w.authority.issue(t, "gateway-1", nil)
	for version, ok := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: false, tls.VersionTLS13: true} {
		c, err := tls.Dial("tcp", w.Address(), &tls.Config{RootCAs: w.authority.pool, Certificates: []tls.Certificate{*cert}, MinVersion: version, MaxVersion: version})
		if err == nil {
			_ = c.Close()
		}
		if (err == nil) != ok {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
}

func TestOnlyWhatAGatewayAsksIsPassedOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	c := w.gateway(t)
	ask := func(method, path, body string) int {
		req, err := http.NewRequest(method, w.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	for _, test := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/v1/chat/completions", chat("hello", false), 200},
		{"POST", "/v1/embeddings", `{"model":"simulator-embed","input":"x"}`, 200},
		{"GET", "/v1/models", "", 200},
		{"GET", "/v1/chat/completions", "", 405},
		{"POST", "/v1/models", "{}", 405},
	} {
		if got := ask(test.method, test.path, test.body); got != test.status {
			t.Errorf("%s %s: %d, want %d", test.method, test.path, got, test.status)
		}
	}
	passedOn := len(w.ollama.Requests())
	for _, path := range []string{"/", "/api/pull", "/api/delete", "/api/push", "/api/create", "/api/copy", "/api/generate", "/api/chat", "/api/tags", "/api/ps", "/api/blobs/sha256:0",
		"/v1/models/x", "/v1/completions", "/v1/../api/pull", "/v1//chat/completions", "/v1/chat%2Fcompletions", "/v1/chat/completions/", "/v1/models?x=1", "//api/pull", "/%61pi/pull"} {
		for _, method := range []string{"GET", "POST", "DELETE", "HEAD", "PUT"} {
			if got := ask(method, path, "{}"); got != 404 && got != 405 {
				t.Errorf("%s %s: %d", method, path, got)
			}
		}
	}
	for _, r := range w.ollama.Requests()[passedOn:] {
		if !strings.HasPrefix(r.Path, "/api/") || r.Method != http.MethodGet { // what the front itself asks
			t.Errorf("the Ollama saw %s %s", r.Method, r.Path)
		}
	}
}

func TestAGatewaysHeadersAndCredentialsStayHere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	req, _ := http.NewRequest("POST", w.url+"/v1/chat/completions", strings.NewReader(chat("hello", false)))
	req.Header.Set("Content-Type", "application/json")
	for _, name := range []string{"Authorization", "Cookie", "X-Forwarded-For", "X-Api-Key", "Traceparent"} {
		req.Header.Set(name, "secret-of-the-gateway")
	}
	resp, err := w.gateway(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for _, r := range w.ollama.Requests() {
		for name, values := range r.Header {
			if strings.Contains(strings.Join(values, ""), "secret-of-the-gateway") {
				t.Errorf("the Ollama got %s", name)
			}
		}
	}
	if resp.Header.Get("Server") != "" {
		t.Errorf("the Ollama's header went out: %v", resp.Header)
	}
}

func TestAStreamIsHandedOnAsItComes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	req, _ := http.NewRequestWithContext(ctx, "POST", w.url+"/v1/chat/completions", strings.NewReader(chat("simulate stall chunk=2", true)))
	resp, err := w.gateway(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	events := 0
	for events < 2 && lines.Scan() {
		if strings.HasPrefix(lines.Text(), "data: ") {
			events++
		}
	}
	// The rest never comes: what is here arrived without it.
	if events < 2 {
		t.Fatalf("%d events of a stream that stalls arrived: %v", events, lines.Err())
	}
	leave()
	eventually(t, "the place to be free once the gateway has left", func() bool { return w.Health().Queue.InFlight == 0 })
}

func TestAnAnswerThatBreaksOffIsNeverTakenForTheWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	c := w.gateway(t)
	for _, fault := range []string{"cut chunk=3", "cut chunk=3 with=rst"} {
		for _, stream := range []bool{true, false} {
			resp, err := c.Post(w.url+"/v1/chat/completions", "application/json", strings.NewReader(chat("simulate "+fault, stream)))
			if err != nil {
				continue // nothing came at all
			}
			_, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode == 200 && err == nil {
				t.Errorf("%s, stream %t: a part of an answer ended as if it were the whole", fault, stream)
			}
		}
	}
}

func TestHealthTellsModelsQueueGPUAndMemory(t *testing.T) {
	t.Parallel()
	root := tree(t, map[string]string{
		"proc/meminfo": "MemTotal:       1000 kB\nMemFree: 1 kB\nMemAvailable:   400 kB\n",
		"proc/net/tcp": "  sl  local_address rem_address   st\n",
	})
	w := newWorld(t, func(o *Options) {
		o.Machine = Machine{Root: root, Run: func(_ context.Context, program string, _ ...string) ([]byte, error) {
			if program == "nvidia-smi" {
				return []byte("NVIDIA L4, 31, 23034, 11264, 54\n"), nil
			}
			return nil, errors.New("there is none")
		}}
	})
	resp, err := w.gateway(t).Get(w.url + "/health")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var h Health
	if err := json.NewDecoder(resp.Body).Decode(&h); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 || !h.Ready() || len(h.Models) != 3 || len(h.Loaded) != 3 || h.Ollama == "" || h.Version != "test" {
		t.Errorf("%d %+v", resp.StatusCode, h)
	}
	if h.Queue.Concurrency != defaultConcurrency || h.Queue.Capacity != defaultQueue {
		t.Errorf("queue: %+v", h.Queue)
	}
	if want := (Memory{Readable: true, Total: 1000 << 10, Available: 400 << 10}); h.Memory != want {
		t.Errorf("memory: %+v", h.Memory)
	}
	if want := (GPU{"NVIDIA L4", 31, 23034 << 20, 11264 << 20, 54}); len(h.GPU.List) != 1 || h.GPU.List[0] != want || h.GPU.Source != "nvidia-smi" {
		t.Errorf("GPU: %+v", h.GPU)
	}
}

func TestHealthSaysThatTheOllamaIsAwayAndThatItIsBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	c := w.gateway(t)
	eventually(t, "the Ollama to be seen", func() bool { h := w.Health(); return h.Ready() })
	w.ollama.Always(simulator.MustFault("500"))
	w.watch.hurry()
	eventually(t, "health to say that the Ollama fails", func() bool { return w.Health().Status == statusAway })
	resp, err := c.Get(w.url + "/health")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("health answers %d while the Ollama fails", resp.StatusCode)
	}
	w.ollama.Clear()
	eventually(t, "health to say that it is back", func() bool { h := w.Health(); return h.Ready() })
	_ = w.server.Close()
	eventually(t, "a request to be told that the Ollama is away", func() bool {
		resp := post(t, c, w.url+"/v1/chat/completions", chat("x", false))
		return resp.StatusCode == http.StatusBadGateway
	})
}

func TestAStopLetsAnswersFinishAndTakesNothingMore(t *testing.T) {
	t.Parallel()
	goOn := make(chan struct{})
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {}\n\n")
		_ = http.NewResponseController(w).Flush()
		<-goOn
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	}))
	t.Cleanup(behind.Close)
	w := newWorld(t, func(o *Options) { o.Config.Concurrency, o.Config.Ollama = 1, behind.URL })
	c := w.gateway(t)
	type end struct {
		status int
		body   string
		err    error
	}
	ask := func(text string) chan end {
		out := make(chan end, 1)
		go func() {
			resp, err := c.Post(w.url+"/v1/chat/completions", "application/json", strings.NewReader(chat(text, true)))
			if err != nil {
				out <- end{err: err}
				return
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			out <- end{resp.StatusCode, string(body), err}
		}()
		return out
	}
	answered := ask("hello")
	eventually(t, "the answer to be under way", func() bool { return w.Health().Queue.InFlight == 1 })
	waits := ask("hello")
	eventually(t, "the second to wait", func() bool { return w.Health().Queue.Length == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- w.Stop(ctx) }()
	if e := <-waits; e.status != http.StatusServiceUnavailable {
		t.Errorf("who waited was told %d %v", e.status, e.err)
	}
	close(goOn)
	if e := <-answered; e.err != nil || e.status != 200 || !strings.Contains(e.body, "[DONE]") {
		t.Errorf("the answer under way ended with %d %v: %q", e.status, e.err, e.body)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if _, err := c.Get(w.url + "/health"); err == nil {
		t.Error("a front that stopped still answers")
	}
}

func TestNoPromptIsInTheLog(t *testing.T) {
	t.Parallel()
	const word = "Zyzzyva-confidential"
	w := newWorld(t, nil)
	c := w.gateway(t)
	for _, body := range []string{chat(word, false), chat(word, true), "{" + word, `{"model":"` + word + `"}`} {
		resp := post(t, c, w.url+"/v1/chat/completions", body)
		_, _ = io.Copy(io.Discard, resp.Body)
	}
	_, _ = c.Get(w.url + "/api/" + word)
	if text := w.log.String(); strings.Contains(text, word) || !strings.Contains(text, "path=/v1/chat/completions") {
		t.Errorf("the log:\n%s", text)
	}
}

func TestCertificatesInFilesAreReadAgainWhenTheyAreRenewed(t *testing.T) {
	t.Parallel()
	a, dir := newAuthority(t), t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, at time.Time) {
		cert := a.issue(t, name, nil)
		key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		for path, block := range map[string]*pem.Block{"node.pem": {Type: "CERTIFICATE", Bytes: cert.Certificate[0]}, "node.key": {Type: "PRIVATE KEY", Bytes: key},
			"ca.pem": {Type: "CERTIFICATE", Bytes: a.cert.Raw}} {
			if err := os.WriteFile(file(path), pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(file(path), at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	write("first", time.Unix(1000, 0))
	w := newWorld(t, func(o *Options) {
		o.TLS = TLS{}
		o.Config.Certificate, o.Config.Key, o.Config.ClientCA = file("node.pem"), config.Secret{File: file("node.key")}, file("ca.pem")
	})
	w.authority = a
	shown := func() string {
		c, err := tls.Dial("tcp", w.Address(), &tls.Config{RootCAs: a.pool, Certificates: []tls.Certificate{*a.issue(t, "gateway-1", nil)}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := shown(); got != "first" {
		t.Fatalf("shown: %s", got)
	}
	write("second", time.Unix(2000, 0))
	if got := shown(); got != "second" {
		t.Errorf("after a renewal: %s", got)
	}
	if err := os.WriteFile(file("node.pem"), []byte("half of a"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := shown(); got != "second" {
		t.Errorf("while a renewal is being written: %s", got)
	}
}

func TestWhatCannotWorkIsRefusedWithAMend(t *testing.T) {
	t.Parallel()
	own := TLS{Certificate: func() (*tls.Certificate, error) { return nil, errors.New("none") }, Authority: x509.NewCertPool}
	for _, test := range []struct {
		name   string
		config Config
		tls    TLS
		code   string
	}{
		{"an Ollama elsewhere", Config{Ollama: "http://10.0.0.9:11434"}, own, "inference-ollama-remote"},
		{"an Ollama at every address", Config{Ollama: "http://0.0.0.0:11434"}, own, "inference-ollama-remote"},
		{"an Ollama by name", Config{Ollama: "http://ollama.example:11434"}, own, "inference-ollama-remote"},
		{"no port", Config{Ollama: "http://127.0.0.1"}, own, "inference-ollama"},
		{"no URL", Config{Ollama: "127.0.0.1:11434"}, own, "inference-ollama"},
		{"half of TLS", Config{Certificate: "a.pem"}, own, "inference-tls-half"},
		{"no TLS", Config{}, TLS{}, "inference-tls"},
		{"no file", Config{Certificate: "/none", Key: config.Secret{File: "/none"}, ClientCA: "/none"}, TLS{}, "tls-files"},
		{"a negative queue", Config{Queue: -1}, own, "inference-bounds"},
		{"no address", Config{Listen: "here"}, own, "inference-listen"},
	} {
		test.config.Listen = strings.TrimSpace(test.config.Listen)
		if test.config.Listen == "" {
			test.config.Listen = "127.0.0.1:0"
		}
		f, err := Start(t.Context(), Options{Config: test.config, TLS: test.tls})
		if f != nil {
			_ = f.Stop(t.Context())
		}
		if e := problem.From(err); err == nil || e.Code != test.code || e.Mend == "" {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}
