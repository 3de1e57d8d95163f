package daemon

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/evidence"
	"github.com/missionopsai/foundry/internal/keys"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// assurance is what watches the promises and tells people.
type assurance struct {
	controls *evidence.Runner
	outbox   *notify.Outbox
	logWatch *evidence.LogWatch
}

// statusTimeout bounds what a scrape of the metrics may ask the database.
const statusTimeout = 2 * time.Second

func keyedHash(key []byte) func([]byte) []byte {
	return func(b []byte) []byte {
		h := hmac.New(sha256.New, key)
		h.Write(b)
		return h.Sum(nil)
	}
}

func alarmOf(control string) string { return "control-failed." + strings.ToLower(control) }

// makeAssurance makes the outbox and the controls.
func (d *Daemon) makeAssurance(context.Context) error {
	if err := d.makeOutbox(); err != nil {
		return err
	}
	signer, err := evidence.OpenSigner(filepath.Join(d.config.DataDir, "evidence"), d.keyring.Seal, d.keyring.Open)
	if err != nil {
		return err
	}
	d.controls, err = evidence.NewRunner(evidence.Options{DB: d.db, Controls: evidence.Catalogue(d.wiring()), Signer: signer, Node: d.node.Number, Mode: d.config.Mode,
		Log: d.log, Clock: d.clock, Changed: d.controlChanged})
	if err != nil {
		return err
	}
	d.registry.MustRegister(d.controls)
	return nil
}

// runControls runs controls when they are due, until ctx ends.
func (d *Daemon) runControls(ctx context.Context) {
	if err := d.controls.Run(ctx); err != nil && ctx.Err() == nil {
		d.log.Error("running controls stopped", "error", err)
	}
}

// startControls runs controls for somebody, beyond the end of the request.
func (d *Daemon) startControls(ctx context.Context, p principal.Principal, ids []string) (evidence.Job, error) {
	return d.controls.Start(ctx, d.life, d.guard, p, ids, d.running.Go)
}

// wiring connects the collectors with what they look at. What is not given
// here is not built yet, and its control says so.
func (d *Daemon) wiring() evidence.Wiring {
	return evidence.Wiring{
		Listeners: d.ownListeners,
		Plain:     func() (string, string) { return dialable(d.Address("http")), dialable(d.httpsAddress()) },
		Now:       d.clock,
		Routes:    evidence.Disallowed(d.canaryRoutes),
		Storage:   d.storage,
		Search:    d.searchFiles,
		Apart:     evidence.Apart(d.keyMaterial),
		Hashes:    evidence.Hashes(d.db, hashColumns, otherColumns),
		Canary:    evidence.Canary(evidence.CanaryOptions{DB: d.db, Present: d.presentCanary, Issued: d.issuedSecrets, Log: d.logWatch, Files: d.serverLogs}),
		Register:  d.registerStanding,
		SignIn:    d.signInWithoutFactor,
		Denials: evidence.Denials(d.negativeProbes, "every route and every role: the tests of each release do that",
			"isolation inside the database: the start-up check and its tests do that"),
		Synthetic: evidence.SyntheticAccess(evidence.SyntheticOptions{Act: d.syntheticAccess, Find: d.findAccess, Prove: d.proveAccess}),
		Verify:    d.verifyLog, VerifyEvery: time.Duration(d.config.Audit.VerifyEvery),
		Credential: d.config.Keys.KEK.Credential != "" || d.config.Keys.Age != nil && (d.config.Keys.Age.Identity.Credential != "" || d.config.Keys.Age.Passphrase.Credential != ""),

		BackupsEncrypted: d.backups.EncryptedControl(d.plantedNeedles), BackupKeys: d.backups.KeysControl(d.backupSecrets),
		BackupAge: d.backups.AgeControl, BackupKept: d.backups.KeptControl, BackupApart: d.backups.ApartControl, BackupDrilled: d.backups.DrilledControl,
		BackupMeasured: d.backups.MeasuredControl, BackupQuarter: d.backups.QuarterControl, Restored: d.backups.RestoredControl,
		CodeMirrors:  d.mirrorControl,
		EmergencyKit: d.kitControl, Contacts: d.contactsControl, ContactDrill: d.contactDrillControl,
		Plan: d.plans.Control, Patroni: d.patroniControl(),
	}
}

// hashColumns are the columns that hold hashes of credentials, and the work
// factor that their owners promise. Passwords are chosen by people and need
// 12; tokens and codes are random.
var hashColumns = []evidence.HashColumn{
	{Table: "api_keys", Column: "secret_hash", MinCost: 10},
	{Table: "sessions", Column: "secret_hash", MinCost: 10},
	{Table: "invitations", Column: "secret_hash", MinCost: 10},
	{Table: "recovery_codes", Column: "code_hash", MinCost: 10},
	{Table: "people", Column: "password_hash", Prefix: "hs384:[0-9a-f]{8}:", MinCost: 12},
}

// otherColumns sound like credentials and are none.
var otherColumns = []evidence.OtherColumn{
	{Table: "observations", Column: "hash", Why: "SHA-256 of a signed statement"},
	{Table: "observations", Column: "raw_hash", Why: "SHA-256 of what a collector saw"},
	{Table: "backup_drills", Column: "hash", Why: "SHA-256 of a signed drill"},
	{Table: "exercises", Column: "plan_hash", Why: "SHA-256 of what a continuity plan says"},
	{Table: "plan_revisions", Column: "hash", Why: "SHA-256 of what a continuity plan says"},
	{Table: "plan_acknowledgements", Column: "hash", Why: "SHA-256 of what a continuity plan says"},
	{Table: "decisions", Column: "hash", Why: "a decision's text, by content"},
	{Table: "requests", Column: "api_key", Why: "a key's selector, its public half"},
	{Table: "refusals", Column: "api_key", Why: "a key's selector, its public half"},
	{Table: "transfers", Column: "api_key", Why: "a key's selector, its public half"},
	{Table: "usage_deltas", Column: "api_key", Why: "a key's selector, its public half"},
	{Table: "budgets", Column: "api_key_id", Why: "a key's selector, its public half"},
	{Table: "audit_queue", Column: "hash", Why: "SHA-256 of a leaf of the audit log's tree"},
	{Table: "audit_leaves", Column: "hash", Why: "SHA-256 of a leaf of the audit log's tree"},
	{Table: "audit_nodes", Column: "hash", Why: "SHA-256 of a node of the audit log's tree"},
	{Table: "journal_batches", Column: "row_hashes", Why: "SHA-256 of rows of the ledger"},
}

// ownListeners are the addresses where this node answers with TLS.
func (d *Daemon) ownListeners() []evidence.Listener {
	return []evidence.Listener{{Name: "https", Address: dialable(d.httpsAddress()), Server: d.certificateName(), Roots: d.ownRoots()}}
}

// certificateName is a name that the node's certificate carries.
func (d *Daemon) certificateName() string {
	if d.config.TLS.Certificate == "" {
		return "localhost"
	}
	if u, err := url.Parse(d.URL()); err == nil {
		return u.Hostname()
	}
	return "localhost"
}

// ownRoots are the authorities that clients of this node trust.
func (d *Daemon) ownRoots() *x509.CertPool {
	if d.config.TLS.Certificate == "" {
		pool := x509.NewCertPool()
		pool.AddCert(d.authority.cert)
		return pool
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if chain, err := os.ReadFile(d.config.TLS.Certificate); err == nil {
		pool.AppendCertsFromPEM(chain)
	}
	return pool
}

// dialable turns the address of a listener into one to connect to.
func dialable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip.To4() == nil {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port)
}

// canaryRoutes asks the gateway where requests under the default policy would
// go, for every model; and the rules about a provider in a third country that
// is in no configuration, so that there is always one to refuse.
func (d *Daemon) canaryRoutes(context.Context) ([]evidence.Route, error) {
	policy := sovereignty.DefaultPolicy()
	us := &sovereignty.Provider{Name: "canary-elsewhere", Controller: "US", Processing: []sovereignty.Jurisdiction{"US"}}
	verdict := sovereignty.Decide(policy, sovereignty.Request{Model: "canary", At: d.clock()}, []sovereignty.Candidate{{Provider: us, Model: "canary"}})
	why, _, _ := strings.Cut(verdict.Text(), "\n\n")
	out := []evidence.Route{{Name: "a provider in the US that no configuration names", Forbidden: true, Refused: !verdict.Considered[0].Allowed, Reason: strings.Join(strings.Fields(why), " ")}}
	probe := &access.Organisation{ID: uuid.New(), Name: "canary"} // unknown: the default policy is in force for it
	for _, m := range d.gateway.Models() {
		e, err := d.gateway.Explain(probe, m.Name, "", "", "")
		if err != nil {
			return nil, err
		}
		for _, r := range m.Routes {
			refused := true
			for _, step := range e.Order {
				refused = refused && (step.Provider != r.Provider || step.Model != r.Model)
			}
			out = append(out, evidence.Route{Name: m.Name + " at " + r.Provider, Forbidden: !r.Own, Refused: refused})
		}
	}
	return out, nil
}

// httpsClient talks to this node as a client would, from outside.
func (d *Daemon) httpsClient() (*http.Client, string) {
	base := "https://" + dialable(d.httpsAddress())
	return &http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: d.ownRoots(), ServerName: d.certificateName()}}}, base
}

// presentCanary shows a token in every place where a client may put one.
func (d *Daemon) presentCanary(ctx context.Context, token string) error {
	client, base := d.httpsClient()
	show := func(path string, with func(*http.Request)) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+path, strings.NewReader(`{"model":"routine","messages":[{"role":"user","content":"hello"}]}`))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		with(req)
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
		return err
	}
	for _, path := range []string{"/v1/chat/completions", "/v1/messages", "/api/v1/status", "/"} {
		for _, with := range []func(*http.Request){
			func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) },
			func(r *http.Request) { r.Header.Set("X-Api-Key", token) },
			func(r *http.Request) { r.SetBasicAuth(token, token) },
			func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "__Host-session", Value: token}) },
			func(r *http.Request) { r.URL.RawQuery = "token=" + token + "&api_key=" + token },
		} {
			if err := show(path, with); err != nil {
				return err
			}
		}
	}
	return nil
}

// issuedSecrets are genuine credentials whose plaintext this process has.
func (d *Daemon) issuedSecrets() []string {
	const lead, secret = len("fdy_") + 10, 32 // see access/token.go
	if len(d.FirstKey) < lead+secret {
		return nil
	}
	return []string{d.FirstKey[lead : lead+secret]}
}

// serverLogs are the log files of the private database server.
func (d *Daemon) serverLogs() []string {
	var out []string
	for _, pattern := range []string{"postgres/log/*", "postgres/*.log", "postgres/data/log/*"} {
		match, _ := filepath.Glob(filepath.Join(d.config.DataDir, pattern)) // well-formed patterns
		out = append(out, match...)
	}
	return out
}

// negativeProbes are requests that nobody may be allowed.
func (d *Daemon) negativeProbes() []evidence.Probe {
	client, base := d.httpsClient()
	denied := []int{http.StatusUnauthorized, http.StatusForbidden}
	outside := func(name, method, path, token string, want []int) evidence.Probe {
		return evidence.Probe{Name: name, Want: want, Do: func(ctx context.Context) (int, error) {
			req, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader("{}"))
			if err != nil {
				return 0, err
			}
			req.Header.Set("Content-Type", "application/json")
			if token != "" {
				req.Header.Set("Authorization", "Bearer "+token)
			}
			resp, err := client.Do(req)
			if err != nil {
				return 0, err
			}
			resp.Body.Close()
			return resp.StatusCode, nil
		}}
	}
	inside := func(name, method, path, body string, p principal.Principal) evidence.Probe {
		return evidence.Probe{Name: name, Want: denied, Do: func(ctx context.Context) (int, error) {
			req, err := http.NewRequestWithContext(ctx, method, "http://probe/api/v1"+path, strings.NewReader(body))
			if err != nil {
				return 0, err
			}
			req.Header.Set("Content-Type", "application/json")
			var w statusRecorder
			d.api.Serve(&w, req, p)
			return w.code, nil
		}}
	}
	forged := "fdy_" + strings.ToLower(rand.Text() + rand.Text() + rand.Text())[:58]
	elsewhere := uuid.New()
	viewer := principal.Principal{Kind: principal.Person, ID: uuid.NewString(), Organisation: elsewhere, Roles: principal.RolesOf(principal.Viewer)}
	key := principal.Principal{Kind: principal.Key, ID: "probe", Organisation: elsewhere}
	return []evidence.Probe{
		outside("models, without a key", http.MethodGet, "/v1/models", "", denied),
		outside("a chat completion, without a key", http.MethodPost, "/v1/chat/completions", "", denied),
		outside("a chat completion, with a forged key", http.MethodPost, "/v1/chat/completions", forged, denied),
		outside("the administrative interface, with a forged token", http.MethodGet, "/api/v1/organisations", forged, append(denied, http.StatusNotFound)),
		inside("making an organisation, as a viewer of another", http.MethodPost, "/organisations", `{"name":"probe-must-not-exist"}`, viewer),
		inside("running controls, as a viewer", http.MethodPost, "/control-runs", `{"controls":["O-16"]}`, viewer),
		inside("sending mail, as a viewer", http.MethodPost, "/notifications/test", `{"to":"nobody@example.invalid"}`, viewer),
		inside("making an organisation, with an API key", http.MethodPost, "/organisations", `{"name":"probe-must-not-exist"}`, key),
		inside("the node's status, with an API key", http.MethodGet, "/status", "", key),
	}
}

// statusRecorder keeps the status of an answer and drops the rest.
type statusRecorder struct {
	code   int
	header http.Header
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (w *statusRecorder) Header() http.Header {
	if w.header == nil {
		w.header = http.Header{}
	}
	return w.header
}

// WriteHeader implements http.ResponseWriter.
func (w *statusRecorder) WriteHeader(code int) {
	if w.code == 0 {
		w.code = code
	}
}

// Write implements http.ResponseWriter.
func (w *statusRecorder) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b[:min(len(b), 1<<10)])
}

// syntheticAccess makes a denied access by a probe that exists only for it.
func (d *Daemon) syntheticAccess(ctx context.Context) (string, error) {
	p := principal.Principal{Kind: principal.Key, ID: "probe-" + strings.ToLower(rand.Text()[:10])}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://probe/api/v1/status", nil)
	if err != nil {
		return "", err
	}
	var w statusRecorder
	d.api.Serve(&w, req, p)
	if w.code != http.StatusForbidden && w.code != http.StatusUnauthorized {
		return "", fmt.Errorf("the probe was answered with %d", w.code)
	}
	return p.String(), nil
}

// findAccess looks for the entry of a probe.
func (d *Daemon) findAccess(ctx context.Context, actor string) (bool, error) {
	rows, err := audit.Find(ctx, d.db, audit.Filter{Actor: actor, Outcome: audit.Denied, Limit: 1})
	return len(rows) > 0, err
}

// proveAccess checks the inclusion proof of a probe's entry. It is not ready
// while the sequencer has not put the entry into a signed tree.
func (d *Daemon) proveAccess(ctx context.Context, actor string) (ready bool, err error) {
	rows, err := audit.Find(ctx, d.db, audit.Filter{Actor: actor, Outcome: audit.Denied, Limit: 1})
	if err != nil || len(rows) == 0 {
		return false, err
	}
	_, err = d.auditLog.Prove(ctx, rows[0].ID)
	if err == nil {
		return true, nil
	}
	if code := problem.From(err).Code; code == "audit-entry-waiting" || code == "audit-checkpoint-none" {
		return false, nil
	}
	return false, err
}

// storage reads how the node's volumes, swap and core dumps are protected.
func (d *Daemon) storage(ctx context.Context, progress func(string)) (out []evidence.Finding, err error) {
	progress("reading volumes, swap and core dumps")
	r := keys.Node{DataDir: d.config.DataDir}.Storage(ctx)
	raw, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	for _, c := range r.Checks {
		out = append(out, evidence.Finding{Subject: c.Name, Result: evidence.Result(c.State), Reason: reasonOf(c), Covered: []string{"what the operating system of this node says"},
			NotCovered: []string{"disks and snapshots below a virtual machine"}, Raw: raw})
	}
	return out, nil
}

// reasonOf is what a check found, as sentences, with what to do about it.
func reasonOf(c keys.StorageCheck) string {
	return strings.TrimSpace(strings.ToUpper(c.Detail[:min(1, len(c.Detail))]) + strings.TrimSuffix(c.Detail[min(1, len(c.Detail)):], ".") + ". " + c.Mend)
}

// searchFiles plants plaintext, a token and a key, and looks for them.
func (d *Daemon) searchFiles(ctx context.Context, progress func(string)) ([]evidence.Finding, error) {
	progress("planting a canary and searching every file")
	r, err := d.canary(ctx, principal.Node("evidence"))
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	f := evidence.Finding{Subject: "canary search", Result: evidence.Result(r.State), Reason: "The canary was found in no file in plaintext.", NotCovered: []string{"backups", "other nodes"}, Raw: raw}
	var bad []string
	for _, a := range r.Areas {
		if a.State == keys.Pass {
			f.Covered = append(f.Covered, a.Name)
			continue
		}
		bad = append(bad, a.Name+": "+a.State)
	}
	if len(bad) > 0 {
		f.Reason = "Not clean: " + strings.Join(bad, ", ") + ". `foundry keys canary` tells where."
	}
	return []evidence.Finding{f}, nil
}
