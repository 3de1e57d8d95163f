package daemon

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/goccy/go-yaml"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/backup/kit"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/evidence"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// makeGlass makes what keeps the emergency kit, and the way in for whoever
// brings the shares.
func (d *Daemon) makeGlass() (err error) {
	d.glass, err = backup.NewGlass(backup.GlassOptions{
		DB: d.db, Guard: d.guard, DataDir: d.config.DataDir, Seal: d.keyring.Seal, Open: d.keyring.Open,
		Collect: d.kitContent, Publish: d.publishKit, Look: d.lookAtKit, Alarm: d.glassOpened, Noted: d.noted, Clock: d.clock, Log: d.log,
	})
	return err
}

// kitContent gathers what brings this node back on a bare machine.
func (d *Daemon) kitContent(ctx context.Context) (c kit.Content, err error) {
	c = kit.Content{Foundry: d.version, Packages: []string{},
		Node: kit.Node{Number: d.node.Number, Name: nodeName(d.config.Node.Name), Mode: d.config.Mode, Country: d.config.Node.Country, DataDir: d.config.DataDir, URL: d.URL()}}
	if data := d.databaseFiles(); data != "" {
		if c.PostgreSQL, err = majorOf(data); err != nil {
			return c, err
		}
		c.Packages = []string{fmt.Sprintf("postgresql-%d", c.PostgreSQL), "pgbackrest", "restic"}
	}
	if c.KEKs, err = d.kitKEKs(ctx); err != nil {
		return c, err
	}
	if c.Files, err = d.kitFiles(); err != nil {
		return c, err
	}
	if err := d.kitSettings(&c); err != nil {
		return c, err
	}
	if c.Targets, c.Passphrases, err = d.kitTargets(); err != nil {
		return c, err
	}
	if checkpoint, err := d.auditLog.Checkpoint(); err == nil {
		c.Audit.Origin, c.Audit.Checkpoint = checkpoint.Origin, checkpoint.Note
	}
	return c, nil
}

// databaseFiles are those of the database that runs on this node, or would as
// soon as it may: while it is down for a moment, what is left for others must
// not say that there is none. Empty: it is elsewhere.
func (d *Daemon) databaseFiles() string {
	if c := d.cluster.Load(); c != nil {
		return c.DataDir()
	}
	if k := d.keeper; k != nil && k.hasData() && k.read().Replaced == "" {
		return filepath.Join(k.dir, "data")
	}
	return ""
}

func nodeName(name string) string {
	if name == "" {
		name, _ = os.Hostname()
	}
	return name
}

func majorOf(data string) (major int, err error) {
	text, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if err == nil {
		_, err = fmt.Sscan(string(text), &major)
	}
	if err != nil {
		return 0, fmt.Errorf("reading the database's version: %w", err)
	}
	return major, nil
}

// kitKEKs reads the key-encryption keys. A provider that asks a person is asked
// once for each key: what it gave stays in memory, where the key is in use anyway.
func (d *Daemon) kitKEKs(ctx context.Context) (out []kit.KEK, err error) {
	current := d.keyring.KEKs().Current().Fingerprint()
	d.kekLock.Lock()
	defer d.kekLock.Unlock()
	if d.kekFor == current {
		for _, k := range d.keks {
			k.Key = bytes.Clone(k.Key)
			out = append(out, k)
		}
		return out, nil
	}
	k := d.config.Keys
	providers := append([]KEKConfig{{Secret: k.KEK, Age: k.Age}}, k.Previous...)
	for i, p := range providers {
		field := "keys.kek"
		if i > 0 {
			field = fmt.Sprintf("keys.previous[%d]", i-1)
		}
		from, err := d.provider(p.Secret, p.Age, field)
		if err != nil {
			return nil, err
		}
		found, err := from.Load(ctx)
		if err != nil {
			return nil, err
		}
		for _, raw := range found {
			sum := sha256.Sum256(append([]byte("foundry kit kek v1\n"), raw...))
			out = append(out, kit.KEK{Provider: from.Name(), Place: from.Place(), Fingerprint: hex.EncodeToString(sum[:6]), Key: raw})
		}
	}
	if asks := k.Age != nil && !k.Age.Passphrase.Set(); asks {
		d.kekFor, d.keks = current, nil
		for _, k := range out {
			k.Key = bytes.Clone(k.Key)
			d.keks = append(d.keks, k)
		}
	}
	return out, nil
}

// longestHistory bounds what of the audit log's old checkpoints goes into a kit.
const longestHistory = 256 << 10

// kitFiles reads the files of keys, authority, audit log, evidence and node.
func (d *Daemon) kitFiles() (out []kit.File, err error) {
	add := func(rel string) error {
		path := filepath.Join(d.config.DataDir, rel)
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			return nil
		}
		body, rerr := os.ReadFile(path)
		if err = errors.Join(err, rerr); errors.Is(err, fs.ErrNotExist) {
			return nil // replaced meanwhile: the next look finds it
		} else if err != nil {
			return unusable(path, err)
		}
		if len(body) > longestHistory && strings.HasSuffix(rel, ".jsonl") {
			_, body, _ = bytes.Cut(body[len(body)-longestHistory:], []byte("\n"))
		}
		out = append(out, kit.File{Path: rel, Mode: info.Mode().Perm(), Body: body})
		return nil
	}
	for _, dir := range []string{"keys", "ca", "audit", "evidence", "backup", "breakglass"} {
		entries, err := os.ReadDir(filepath.Join(d.config.DataDir, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, unusable(filepath.Join(d.config.DataDir, dir), err)
		}
		for _, e := range entries {
			// The key-encryption key has a place of its own in the kit, and what
			// begins with a dot is being written.
			if strings.HasPrefix(e.Name(), ".") || dir == "keys" && strings.HasPrefix(e.Name(), "kek") && e.Name() != "kek.fingerprint" {
				continue
			}
			if err := add(filepath.Join(dir, e.Name())); err != nil {
				return nil, err
			}
		}
	}
	return out, add("node.json")
}

// kitSettings adds the settings, the secrets that they name, and the files that
// they name.
func (d *Daemon) kitSettings(c *kit.Content) error {
	text, err := yaml.Marshal(d.config)
	if err != nil {
		return fmt.Errorf("writing the settings: %w", err)
	}
	c.Settings = string(text)
	settings := d.config
	return walkSettings(reflect.ValueOf(&settings).Elem(), "", func(field string, v reflect.Value) error {
		switch s := v.Addr().Interface().(type) {
		case *config.Secret:
			if !s.Set() || strings.HasPrefix(field, "keys.") { // the keys themselves are in the kit
				return nil
			}
			value, err := s.Read(field)
			if err != nil {
				return err
			}
			c.Secrets = append(c.Secrets, kit.Secret{Field: field, File: s.File, Name: s.Credential, Value: []byte(value)})
		case *string:
			if !namesFile(field) || *s == "" {
				return nil
			}
			body, err := os.ReadFile(*s)
			if err != nil {
				return unusable(*s, err)
			}
			abs, err := filepath.Abs(*s)
			if err != nil {
				return err
			}
			c.Configuration = append(c.Configuration, kit.File{Path: abs, Mode: 0o644, Body: body})
		}
		return nil
	})
}

// namesFile reports settings that are paths of files which the node reads: what
// is left out here is not in the kit, and a recovered node does not start.
func namesFile(field string) bool {
	return strings.HasPrefix(field, "policies[") || field == "tls.certificate" || strings.HasSuffix(field, ".ca") || strings.HasSuffix(field, ".client_certificate") ||
		field == "inference.certificate" || field == "inference.client_ca" || strings.HasSuffix(field, ".known_hosts") || strings.HasSuffix(field, ".provision.config")
}

// walkSettings visits every secret and every text of the settings, with the
// name of its setting.
func walkSettings(v reflect.Value, field string, visit func(string, reflect.Value) error) error {
	if v.CanAddr() {
		if _, ok := v.Addr().Interface().(*config.Secret); ok {
			return visit(field, v)
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			return walkSettings(v.Elem(), field, visit)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if !f.IsExported() || name == "-" || name == "" && !strings.Contains(options, "inline") {
				continue
			}
			if err := walkSettings(v.Field(i), joinSetting(field, name), visit); err != nil {
				return err
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			if err := walkSettings(v.Index(i), fmt.Sprintf("%s[%d]", field, i), visit); err != nil {
				return err
			}
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			changed := reflect.New(v.Type().Elem()).Elem()
			changed.Set(v.MapIndex(key))
			if err := walkSettings(changed, joinSetting(field, key.String()), visit); err != nil {
				return err
			}
			v.SetMapIndex(key, changed)
		}
	case reflect.String:
		if v.CanAddr() && v.Type() == reflect.TypeFor[string]() {
			return visit(field, v)
		}
	}
	return nil
}

func joinSetting(path, name string) string {
	if path == "" || name == "" {
		return path + name
	}
	return path + "." + name
}

// publishKit puts a kit on every target, and reads it back.
func (d *Daemon) publishKit(ctx context.Context, name string, file []byte) (copies []backup.KitCopy) {
	sum := sha256.Sum256(file)
	for _, t := range d.kitStores() {
		c := backup.KitCopy{Place: kitPlace(t, name), At: d.clock().UTC()}
		if err := putAt(ctx, t, name, file); err != nil {
			c.Failure = problem.From(err).Detail
		} else if c.Failure = readAt(ctx, t, name, sum); c.Failure == "" {
			c.Seen = d.clock().UTC()
		}
		copies = append(copies, c)
	}
	return copies
}

func kitPlace(t target.Target, name string) string { return t.Name + ": " + name }

// lookAtKit reads the copies of a kit at every target.
func (d *Daemon) lookAtKit(ctx context.Context, name string, sum [sha256.Size]byte) []backup.KitCopy {
	all := d.kitStores()
	copies := make([]backup.KitCopy, len(all))
	var wg sync.WaitGroup
	for i, t := range all {
		wg.Go(func() {
			copies[i] = backup.KitCopy{Place: kitPlace(t, name)}
			if copies[i].Failure = readAt(ctx, t, name, sum); copies[i].Failure == "" {
				copies[i].Seen = d.clock().UTC()
			}
		})
	}
	wg.Wait()
	return copies
}

// largestKit bounds what is read of a file that calls itself a kit.
const largestKit = 64 << 20

// readAt says why the kit at a target is not the one that should be there.
func readAt(ctx context.Context, t target.Target, name string, sum [sha256.Size]byte) (failure string) {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	store, err := t.Store(ctx)
	if err != nil {
		return problem.From(err).Detail
	}
	defer store.Close()
	r, err := store.Open(ctx, name)
	if err != nil {
		return problem.From(err).Detail
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(r, largestKit)); err != nil {
		return problem.From(err).Detail
	}
	if [sha256.Size]byte(h.Sum(nil)) != sum {
		return "What lies there is not the newest kit."
	}
	return ""
}

func putAt(ctx context.Context, t target.Target, name string, file []byte) error {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	store, err := t.Store(ctx)
	if err != nil {
		return err
	}
	return errors.Join(store.Put(ctx, name, file), store.Close())
}

// glassOpened tells everybody who should know that somebody got in with the
// shares: those whom alarms go to, and the contacts in the kit.
func (d *Daemon) glassOpened(ctx context.Context, tx pgx.Tx, o backup.Opening) error {
	facts := map[string]string{"opening": o.ID.String(), "scope": o.Scope, "actor": o.By, "opened": inMail(o.Opened), "until": inMail(o.Until),
		"shares": fmt.Sprint(o.Shares), "next": "foundry breakglass review " + o.ID.String()}
	// Each is an alarm of its own: a second one must not be counted into the first.
	if _, err := d.outbox.Alarm(ctx, tx, notify.Critical, "break-glass."+o.ID.String(), uuid.Nil, facts); err != nil {
		return err
	}
	contacts, err := d.glass.Contacts()
	if err != nil {
		return err
	}
	var lines []string
	for k, v := range facts {
		lines = append(lines, k+": "+v)
	}
	slices.Sort(lines)
	for _, c := range contacts {
		if c.Mail == "" {
			continue
		}
		err := d.write(ctx, tx, notify.Message{Template: notify.AlarmRaised, To: notify.Address{Name: nameOnly(c.Name, c.Mail), Email: c.Mail}, Fields: map[string]string{
			"severity": string(notify.Critical), "code": "break-glass", "organisation": "the platform", "when": inMail(o.Opened), "facts": strings.Join(lines, "\n")}})
		if err != nil {
			return err
		}
	}
	return nil
}

// verifyRecord checks that a printed record of a drill was signed with this
// node's evidence key.
func (d *Daemon) verifyRecord(signed string) error {
	_, by, err := evidence.VerifyText(signed)
	if err != nil {
		return err
	}
	signer, err := evidence.OpenSigner(filepath.Join(d.config.DataDir, "evidence"), d.keyring.Seal, d.keyring.Open)
	if err != nil {
		return err
	}
	if by != signer.ID() {
		return problem.New(problem.Invalid, "break-glass-evidence", "The record was signed by another node's evidence key.").WithField("evidence").WithMend("Send it to the node whose kit was drilled.")
	}
	return nil
}

// behindGlass finds who acts with the token of an emergency session. Only the
// local socket takes one.
func (d *Daemon) behindGlass(r *http.Request, p principal.Principal) (principal.Principal, error) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || d.glass == nil {
		return p, nil
	}
	changes := r.Method != http.MethodGet && r.Method != http.MethodHead
	who, found, err := d.glass.Session(token, r.Method+" "+r.URL.Path, changes)
	if err != nil || !found {
		return p, err
	}
	return who, nil
}

// kitTargets are the targets with what is needed to reach them, and the
// passphrases of the repositories there.
func (d *Daemon) kitTargets() (out []kit.Target, passphrases map[string][]byte, err error) {
	for _, t := range d.targets {
		k := kit.Target{Config: t.Config, S3Key: t.S3Key, S3Secret: t.S3Secret, SFTPKey: t.SFTPKey}
		for path, to := range map[string]*[]byte{caOf(t): &k.CA, knownHostsOf(t): &k.KnownHosts} {
			if path == "" {
				continue
			}
			if *to, err = os.ReadFile(path); err != nil {
				return nil, nil, unusable(path, err)
			}
		}
		out = append(out, k)
	}
	if d.passphrases != nil {
		passphrases = d.passphrases.All()
	}
	return out, passphrases, nil
}

func caOf(t target.Target) string {
	if t.S3 == nil {
		return ""
	}
	return t.S3.CA
}

func knownHostsOf(t target.Target) string {
	if t.SFTP == nil {
		return ""
	}
	return t.SFTP.KnownHosts
}

func (d *Daemon) kitStores() []target.Target { return d.targets }

// noted says what is known about the database from outside of it.
func (d *Daemon) noted(ctx context.Context) (n backup.Noted, err error) {
	if d.backups == nil {
		return n, nil
	}
	return d.backups.Noted(ctx)
}

// The controls of break-glass are made before it, and run after.
func (d *Daemon) kitControl(ctx context.Context, progress func(string)) ([]evidence.Finding, error) {
	return d.glass.KitControl(ctx, progress)
}

func (d *Daemon) contactsControl(ctx context.Context, progress func(string)) ([]evidence.Finding, error) {
	return d.glass.ContactsControl(ctx, progress)
}

func (d *Daemon) contactDrillControl(ctx context.Context, progress func(string)) ([]evidence.Finding, error) {
	return d.glass.ContactDrillControl(ctx, progress)
}
