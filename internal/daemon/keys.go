package daemon

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/continuity/exercise"
	"github.com/missionopsai/foundry/internal/governance"
	"github.com/missionopsai/foundry/internal/keys"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
	"golang.org/x/sys/unix"
)

// KeysConfig says where the key-encryption key is, and how keys are ended.
type KeysConfig struct {
	KEK      config.Secret   `yaml:"kek,omitempty" json:"kek,omitzero"`
	Age      *AgeConfig      `yaml:"age,omitempty" json:"age,omitempty" jsonschema:"description=The key-encryption key in a file that is encrypted to age recipients\\, instead of kek."`
	Previous []KEKConfig     `yaml:"previous,omitempty" json:"previous,omitempty" jsonschema:"description=Key-encryption keys that keysets may still be wrapped by. foundry keys rewrap ends that."`
	Patience config.Duration `yaml:"patience,omitempty" json:"patience,omitzero" jsonschema:"type=string,description=How long the key-encryption key may take to be read. Default 30s."`
	Shred    ShredConfig     `yaml:"shred,omitempty" json:"shred,omitzero"`
}

// KEKConfig is one key-encryption key.
type KEKConfig struct {
	config.Secret `yaml:",inline"`
	Age           *AgeConfig `yaml:"age,omitempty" json:"age,omitempty"`
}

// AgeConfig names an age file and what opens it.
type AgeConfig struct {
	File       string        `yaml:"file,omitempty" json:"file,omitempty" jsonschema:"description=The encrypted key-encryption key; made where there is none. Default: kek.age in the data directory's keys."`
	Recipients []string      `yaml:"recipients" json:"recipients" jsonschema:"description=age1…: this node\\, the nodes that take over\\, and escrow."`
	Identity   config.Secret `yaml:"identity" json:"identity" jsonschema:"description=age identities; may themselves be encrypted with a passphrase (age -p)."`
	Passphrase config.Secret `yaml:"passphrase,omitempty" json:"passphrase,omitzero" jsonschema:"description=Unlocks the identity. Without it an operator is asked on the terminal at every start."`
}

// ShredConfig says how the keys of an organisation are ended.
type ShredConfig struct {
	Undo       config.Duration `yaml:"undo,omitempty" json:"undo,omitzero" jsonschema:"type=string,description=Between the second approval and the end. Default 72h; at least 1h in production."`
	BackupDays int             `yaml:"backup_days,omitempty" json:"backup_days,omitempty" jsonschema:"minimum=0,maximum=3650,description=For how many days whoever backs up the database keeps the backups. Default 30."`
}

// shortestUndo is the least undo window of production.
const shortestUndo = time.Hour

// checkKeys reports what is wrong with the keys' settings.
func (c Config) checkKeys() error {
	k := c.Keys
	if k.KEK.Set() && k.Age != nil {
		return problem.New(problem.Invalid, "kek-twice", "Both kek and age are given.").WithField("keys").WithMend("Keep one; name the other under keys.previous if keysets are still wrapped by it.")
	}
	if undo := time.Duration(k.Shred.Undo); c.Mode == Production && undo != 0 && undo < shortestUndo {
		return problem.New(problem.Denied, "undo-short", "In production the undo window of a shredding is at least one hour.").WithField("keys.shred.undo")
	}
	if k.Age != nil {
		if err := k.Age.check("keys.age"); err != nil {
			return err
		}
	}
	for i, p := range k.Previous {
		field := fmt.Sprintf("keys.previous[%d]", i)
		if p.Set() == (p.Age != nil) {
			return problem.New(problem.Invalid, "kek-previous", "A previous key is a file, a credential or an age file.").WithField(field).WithMend("Give exactly one of them.")
		}
		if p.Age != nil {
			if err := p.Age.check(field + ".age"); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a AgeConfig) check(field string) error {
	if len(a.Recipients) == 0 || !a.Identity.Set() {
		return problem.New(problem.Invalid, "age-half", "An age file needs its recipients and an identity.").WithField(field).
			WithMend("Make an identity with age-keygen, and write both age.recipients and age.identity.")
	}
	return nil
}

// provider makes the provider of one key-encryption key.
func (d *Daemon) provider(secret config.Secret, a *AgeConfig, field string) (keys.Provider, error) {
	dir := filepath.Join(d.config.DataDir, "keys")
	if a != nil {
		identity, err := a.Identity.Path(field + ".age.identity")
		if err != nil {
			return nil, err
		}
		o := keys.AgeOptions{File: a.File, Recipients: a.Recipients, Identity: identity, Passphrase: d.passphrase}
		if o.File == "" {
			o.File = filepath.Join(dir, "kek.age")
		}
		if a.Passphrase.Set() {
			o.Passphrase = func(context.Context) ([]byte, error) {
				text, err := a.Passphrase.Read(field + ".age.passphrase")
				return []byte(text), err
			}
		}
		return keys.Age(o), nil
	}
	path, err := secret.Path(field)
	switch {
	case err != nil:
		return nil, err
	case secret.Credential != "":
		return keys.Credential(filepath.Dir(path), secret.Credential), nil
	case path == "":
		path = filepath.Join(dir, "kek")
	}
	return keys.File(path), nil
}

// OpenKeyring reads the keyring of an installation whose node does not run,
// from the key-encryption key that its configuration names.
func OpenKeyring(c Config, passphrase func(context.Context) ([]byte, error)) (*keys.Keyring, error) {
	d := &Daemon{config: c.withDefaults(), passphrase: passphrase}
	if err := d.config.checkKeys(); err != nil {
		return nil, err
	}
	err := d.openKeys()
	return d.keyring, err
}

// openKeys reads the keyring.
func (d *Daemon) openKeys() (err error) {
	if d.config.Mode == Production {
		if err := keys.ForbidDumps(); err != nil {
			return err
		}
	}
	c := d.config.Keys
	o := keys.Options{Dir: filepath.Join(d.config.DataDir, "keys"), Patience: time.Duration(c.Patience),
		Production: d.config.Mode == Production, DataDir: d.config.DataDir}
	if o.Provider, err = d.provider(c.KEK, c.Age, "keys.kek"); err != nil {
		return err
	}
	for i, previous := range c.Previous {
		p, err := d.provider(previous.Secret, previous.Age, fmt.Sprintf("keys.previous[%d]", i))
		if err != nil {
			return err
		}
		o.Previous = append(o.Previous, p)
	}
	d.keyring, err = keys.Open(o)
	return err
}

// makeVault makes what seals for organisations. Owners of tables say here
// which columns they seal.
func (d *Daemon) makeVault(context.Context) error {
	d.vault = keys.NewVault(keys.VaultOptions{
		DB: d.db, Keyring: d.keyring, Columns: sealedColumns(), Audit: audit.Append, Deny: audit.Deny,
		Undo: time.Duration(d.config.Keys.Shred.Undo), BackupDays: d.config.Keys.Shred.BackupDays, FilesKept: notify.LongestLife, Clock: d.clock, Log: d.log,
	})
	return nil
}

// sealedColumns lists the columns that hold values of the vault.
func sealedColumns() []keys.Column {
	return slices.Concat(access.SealedColumns(), governance.SealedColumns(), exercise.SealedColumns())
}

func (d *Daemon) encryption() *api.Encryption {
	return &api.Encryption{Vault: d.vault, Rotate: d.rotate, Canary: d.canary,
		Storage: func(ctx context.Context) keys.StorageReport {
			return keys.Node{DataDir: d.config.DataDir}.Storage(ctx)
		}}
}

// rotate rotates a keyset; with that of the installation also the keyring in
// files, after which the keys that it protects are sealed anew.
func (d *Daemon) rotate(ctx context.Context, p principal.Principal, org uuid.UUID) (keys.Progress, error) {
	if org == uuid.Nil {
		if _, err := d.vault.RotateFiles(ctx, p); err != nil {
			return keys.Progress{}, err
		}
		if err := d.resealFiles(); err != nil {
			return keys.Progress{}, err
		}
		if err := d.keyring.NoteRotation(ctx, d.db); err != nil {
			return keys.Progress{}, err
		}
	}
	return d.vault.StartRotation(ctx, p, org)
}

func (d *Daemon) resealAuthority() error {
	path := filepath.Join(d.config.DataDir, "ca", "ca.key.sealed")
	sealed, err := os.ReadFile(path)
	if err != nil {
		return unusable(path, err)
	}
	plain, err := d.keyring.Open(sealed, []byte(authorityLabel))
	if err != nil {
		return fmt.Errorf("opening the local authority's key: %w", err)
	}
	defer clear(plain)
	if sealed, err = d.keyring.Seal(plain, []byte(authorityLabel)); err != nil {
		return fmt.Errorf("sealing the local authority's key: %w", err)
	}
	return replaceFile(path, sealed, 0o600)
}

// ProbeOrganisation is whose keys and requests the node's own probes use: no
// client's register shows traffic that no client made.
const ProbeOrganisation = "foundry-probes"

// probePlace is the organisation of the probes, made when it is first needed.
func (d *Daemon) probePlace(ctx context.Context) (*access.Organisation, error) {
	if org := d.verifier.Directory().OrganisationNamed(ProbeOrganisation); org != nil {
		return org, nil
	}
	made, err := access.CreateOrganisation(ctx, d.db, d.guard, principal.Node("canary"), ProbeOrganisation)
	if err != nil && problem.From(err).Kind == problem.Conflict { // another node was faster
		if err := d.gateway.Refresh(ctx); err != nil {
			return nil, err
		}
		if org := d.verifier.Directory().OrganisationNamed(ProbeOrganisation); org != nil {
			return org, nil
		}
	}
	if err != nil {
		return nil, err
	}
	return &made, nil
}

// canary plants a plaintext, a key and an API token on the ways that clients'
// content takes, and then searches every place where it must not be.
//
// Whoever asks may search, and need not be somebody who may make keys: the
// node plants, and the entry of the audit log says for whom.
func (d *Daemon) canary(ctx context.Context, p principal.Principal) (keys.CanaryReport, error) {
	began := time.Now()
	report := keys.CanaryReport{At: d.clock().UTC()}
	search := &keys.Search{}
	err := d.db.Org(ctx, uuid.Nil, func(tx pgx.Tx) error { return audit.Append(ctx, tx, p, uuid.Nil, "keys.search", "", nil) })
	if err != nil {
		return report, err
	}
	if err := d.plant(ctx, principal.Node("canary"), search, &report); err != nil {
		return report, err
	}
	runtime.GC()
	debug.FreeOSMemory()
	report.Areas = d.searchAreas(search, began.Add(-time.Second))
	report.Settle()
	report.Took = time.Since(began).Round(time.Millisecond).String()
	return report, nil
}

// plant sends the canaries on their ways and wipes its own copies.
func (d *Daemon) plant(ctx context.Context, p principal.Principal, search *keys.Search, report *keys.CanaryReport) error {
	org, err := d.probePlace(ctx)
	if err != nil {
		return err
	}
	text, key := keys.PlantedText(), keys.PlantedText()
	defer clear(text)
	defer clear(key)
	for name, secret := range map[string][]byte{"plaintext": text, "key": key} {
		if err := search.Add(name, secret); err != nil {
			return err
		}
	}
	remove, err := d.vault.Plant(ctx, org.ID, text, key, d.config.DataDir)
	if err != nil {
		return err
	}
	defer func() { _ = remove(context.WithoutCancel(ctx)) }()
	report.Planted = append(report.Planted, "plaintext: sealed into a row and a file", "key: sealed into a file")
	k, token, err := d.verifier.CreateKey(ctx, d.db, d.guard, p, access.NewKey{Organisation: org.ID, Name: "canary-" + uuid.NewString()[:8]})
	if err != nil {
		return err
	}
	defer func() {
		if _, err := access.RevokeKey(context.WithoutCancel(ctx), d.db, d.guard, p, k.ID); err != nil {
			d.log.Warn("the canary's API key was not revoked", "key", k.ID, "error", err)
		}
	}()
	_, secret, _ := strings.Cut(token, k.ID)
	if err := search.Add("token", []byte(secret)); err != nil {
		return err
	}
	report.Planted = append(report.Planted, "token: a real API key, used for one request")
	if err := d.gateway.Refresh(ctx); err != nil {
		return err
	}
	status := d.ask(ctx, token, text)
	report.Planted = append(report.Planted, fmt.Sprintf("plaintext: in the prompt of a request to a simulated or unknown model, answered with %d", status))
	if err := d.shipper.Flush(ctx); err != nil {
		return err
	}
	return nil
}

// ask sends the plaintext through the gateway, to a model that no third party
// answers: the simulator's, or none.
func (d *Daemon) ask(ctx context.Context, token string, text []byte) int {
	model := "canary-model"
	for _, p := range d.gateway.Providers() {
		for name := range p.Models() {
			if p.Facts.Simulated {
				model = p.Name + "/" + name
			}
		}
	}
	var body bytes.Buffer
	fmt.Fprintf(&body, `{"model":%q,"max_tokens":1,"messages":[{"role":"user","content":"`, model)
	body.Write(text)
	body.WriteString(`"}]}`)
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/chat/completions", bytes.NewReader(body.Bytes()))
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	d.gateway.ServeHTTP(w, r)
	clear(body.Bytes())
	clear(w.Body.Bytes())
	return w.Code
}

// searchAreas looks at the data files, the write-ahead log, the journal, other
// files of the data directory, temporary files, logs, and memory.
func (d *Daemon) searchAreas(s *keys.Search, since time.Time) []keys.Area {
	data := d.config.DataDir
	at := func(rel string) string { return filepath.Join(data, rel) }
	var areas []keys.Area
	if d.cluster.Load() != nil {
		wal := func(path string) bool { return strings.Contains(path, "/pg_wal/") }
		areas = append(areas,
			s.Files("data files", func(path string, _ fs.FileInfo) bool { return !wal(path) }, at("postgres")),
			s.Files("write-ahead log", func(path string, _ fs.FileInfo) bool { return wal(path) }, at("postgres")))
	} else {
		for _, name := range []string{"data files", "write-ahead log"} {
			areas = append(areas, keys.Area{Name: name, State: keys.Inconclusive, Detail: "the database runs elsewhere: search its data directory there"})
		}
	}
	areas = append(areas, s.Files("journal", nil, at("journal")),
		s.Files("other files of the data directory", func(path string, _ fs.FileInfo) bool {
			rel, _ := filepath.Rel(data, path)
			return !strings.HasPrefix(rel, "postgres/") && !strings.HasPrefix(rel, "journal/")
		}, data),
		temporary(s, since), logs(s), coreDumps(s, since))
	memory := s.Memory()
	if dumps := (keys.Node{DataDir: data}).Dumps(); memory.State == keys.Fail && dumps.State == keys.Pass {
		// Memory that no dump can carry to a disk is where plaintext has to be.
		memory.State, memory.Detail = keys.Pass, memory.Detail+"; what was found cannot reach a disk: "+dumps.Detail
	}
	return append(areas, memory)
}

// temporary searches files that were written since the canary was planted.
func temporary(s *keys.Search, since time.Time) keys.Area {
	a := s.Files("temporary files", func(_ string, info fs.FileInfo) bool { return !info.ModTime().Before(since) }, os.TempDir(), "/var/tmp", "/dev/shm")
	if a.State == keys.Inconclusive && len(a.Unread) == 0 {
		a.State, a.Detail = keys.Pass, "no file was written there since the canary was planted"
	}
	return a
}

// logs searches where this process writes its log.
func logs(s *keys.Search) keys.Area {
	var st unix.Stat_t
	target, err := os.Readlink("/proc/self/fd/2")
	if err == nil {
		err = unix.Fstat(2, &st)
	}
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
		a := s.Files("logs", nil, target)
		a.Detail = target
		return a
	}
	return keys.Area{Name: "logs", State: keys.Inconclusive,
		Detail: "the log goes to " + target + ", which cannot be searched from here: search it where it is kept, or start the node with its log in a file"}
}

// coreDumps searches dumps that lie where the kernel or systemd put them.
func coreDumps(s *keys.Search, since time.Time) keys.Area {
	a := s.Files("core dumps on disk", func(path string, info fs.FileInfo) bool {
		return strings.HasPrefix(filepath.Base(path), "core") && !info.ModTime().Before(since)
	}, "/var/lib/systemd/coredump", ".")
	var unread []string
	for _, u := range a.Unread {
		if !strings.HasSuffix(u, ": no such file or directory") {
			unread = append(unread, u)
		}
	}
	if a.Unread = unread; len(a.Finds) == 0 && len(unread) == 0 {
		a.State, a.Detail = keys.Pass, "none was written since the canary was planted"
	}
	return a
}
