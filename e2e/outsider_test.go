package e2e

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unicode/utf16"

	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/principal"
)

// forms are the ways in which a text may lie in a file: those of spellings,
// and as other programs write it.
func forms(text string) [][]byte {
	out := spellings(text)
	out = append(out, []byte(strings.ToUpper(hex.EncodeToString([]byte(text)))))
	for shift := range 3 {
		encoded := strings.TrimRight(base64.URLEncoding.EncodeToString([]byte(strings.Repeat("x", shift)+text)), "=")
		out = append(out, []byte(encoded[4:len(encoded)-2]))
	}
	escaped, _ := json.Marshal(text)
	out = append(out, escaped[1:len(escaped)-1])
	var little, big []byte
	for _, u := range utf16.Encode([]rune(text)) {
		little, big = append(little, byte(u), byte(u>>8)), append(big, byte(u>>8), byte(u))
	}
	return append(out, little, big)
}

// lying lists which of the secrets lie in the files below a directory.
func lying(dir string, secrets map[string][][]byte) (list []string, read int) {
	all := newSearch(secrets)
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // files of the database come and go
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		read++
		for _, name := range all.in(body) {
			list = append(list, name+" in "+strings.TrimPrefix(path, dir))
		}
		return nil
	})
	return list, read
}

// search finds hundreds of texts in one pass: most places begin none of them.
type search struct {
	begins [1 << 16]bool // by the first two bytes
	forms  map[[4]byte][]form
	short  []form
}

type form struct {
	name string
	text []byte
}

func newSearch(secrets map[string][][]byte) *search {
	s := &search{forms: map[[4]byte][]form{}}
	for name, all := range secrets {
		for _, text := range all {
			if len(text) < 4 {
				s.short = append(s.short, form{name, text})
				continue
			}
			s.begins[uint(text[0])<<8|uint(text[1])] = true
			s.forms[[4]byte(text)] = append(s.forms[[4]byte(text)], form{name, text})
		}
	}
	return s
}

// in names what is in a text, each once.
func (s *search) in(body []byte) (names []string) {
	found := func(f form) {
		if !slices.Contains(names, f.name) {
			names = append(names, f.name)
		}
	}
	for _, f := range s.short {
		if bytes.Contains(body, f.text) {
			found(f)
		}
	}
	for i := 0; i+4 <= len(body); i++ {
		if !s.begins[uint(body[i])<<8|uint(body[i+1])] {
			continue
		}
		for _, f := range s.forms[[4]byte(body[i:])] {
			if bytes.HasPrefix(body[i:], f.text) {
				found(f)
			}
		}
	}
	return names
}

func TestASecretIsFoundInEveryFormAFileMayHaveIt(t *testing.T) {
	const secret = `say "grüß Gott" 41`
	for i, form := range forms(secret) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "f"), append([]byte("before "), form...), 0o600); err != nil {
			t.Fatal(err)
		}
		if list, _ := lying(dir, map[string][][]byte{"it": forms(secret)}); len(list) == 0 {
			t.Errorf("form %d is not found: %q", i, form)
		}
	}
}

// TestAnOutsiderWithEveryFileLearnsNothing: whoever has the data directory
// with the database's files and WAL, the journal, the log, temporary files and
// core dumps, and not the key-encryption key, learns no credential and nothing
// that a client said. What staff write for others to read (reasons and tickets
// of access to client data, attestations) is there in plain, as names of
// organisations are: TestAnOutsiderWithTheFilesAndTheBackupsLearnsNothing holds
// the threat model to that. Passkeys need a console with a host name:
// TestNoSecretAndNoAddressLiesInTheDatabase has one.
func TestAnOutsiderWithEveryFileLearnsNothing(t *testing.T) {
	s := onStage(t)
	mary := s.realms[0]
	admin := mary.people[principal.Administrator]
	s.post(t, mary.token, "/v1/chat/completions", `{"model":"simulator-chat","messages":[{"role":"user","content":"`+canaryPrompt+`"}]}`)
	var invitation api.Invitation
	admin.do(t, "POST", "/invitations", map[string]any{"organisation": mary.name, "email": "canary-invited@example.org", "name": "Canaria Invited", "roles": []string{"viewer"}}, &invitation)
	s.shippedOver(t, admin)
	s.over(t, "", "POST", "/signin", map[string]any{"email": "canary-guess@example.org", "password": "canary-guess-password-9"}, nil)

	secrets := map[string][][]byte{}
	hide := func(name, text string) {
		if len(text) < 8 {
			t.Fatalf("%s is %q: the search would prove nothing", name, text)
		}
		secrets[name] = forms(text)
	}
	hide("the password", password)
	hide("a wrong password", "canary-guess-password-9")
	hide("the address of somebody who does not exist", "canary-guess@example.org")
	hide("a prompt", canaryPrompt)
	hide("an invited address", "canary-invited@example.org")
	hide("an invited name", "Canaria Invited")
	secretOf := func(token string) string { return token[len("fdy_")+10:][:32] }
	hide("an invitation", secretOf(invitation.Token))
	hide("an API key", secretOf(mary.token))
	hide("a service account's key", secretOf(s.service))
	for _, c := range s.callers() {
		if !c.person() {
			continue
		}
		hide(c.name+"'s session", secretOf(c.who.token))
		hide(c.name+"'s address", c.who.email)
		hide(c.name+"'s authenticator", c.who.totp)
		raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(c.who.totp)
		if err != nil {
			t.Fatal(err)
		}
		hide(c.name+"'s authenticator's bytes", string(raw))
		for _, code := range c.who.recovery {
			hide(c.name+"'s recovery code "+code, code)
			hide(c.name+"'s recovery code without dashes "+code, strings.ReplaceAll(code, "-", ""))
		}
	}
	if len(secrets) < 60 {
		t.Fatalf("%d secrets", len(secrets))
	}
	list, read := lying(s.d.DataDir(), secrets)
	for _, leak := range list {
		t.Error(leak)
	}
	for _, pattern := range []string{filepath.Join(os.TempDir(), "foundry*"), filepath.Join(os.TempDir(), "core*"), "core*", "/var/lib/systemd/coredump/*foundry*"} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			if strings.Contains(path, "foundry-e2e-kek-") {
				continue // what the outsider does not have
			}
			list, _ := lying(path, map[string][][]byte{"a prompt": secrets["a prompt"], "an API key": secrets["an API key"], "an invitation": secrets["an invitation"]})
			for _, leak := range list {
				if !strings.HasSuffix(leak, "_test.go") { // a checkout of what names the texts
					t.Errorf("%s: %s", path, leak)
				}
			}
		}
	}
	log := []byte(s.log.String())
	for name, all := range secrets {
		for _, form := range all {
			if bytes.Contains(log, form) {
				t.Errorf("the log holds %s", name)
			}
		}
	}
	if found, _ := lying(filepath.Join(s.d.DataDir(), "postgres"), map[string][][]byte{"a name": {[]byte(mary.name)}}); len(found) == 0 || read < 500 || len(log) == 0 {
		t.Errorf("%d files were read, and the organisation's name stood in %d: the search proves nothing", read, len(found))
	}
}

// shippedOver waits for the ledger, asked over HTTPS.
func (s *stage) shippedOver(t *testing.T, who *somebody) {
	t.Helper()
	s.eventuallySees(t, who, "/requests/"+s.get(t, s.realms[0].token, question{model: "simulator-chat"}).id)
}

// TestAnAuditorVerifiesAnExportOnAnotherMachine: with the program, the export
// and the public key, as somebody who may read nothing of the node, without an
// environment; and notices one changed byte wherever it is.
func TestAnAuditorVerifiesAnExportOnAnotherMachine(t *testing.T) {
	s := onStage(t)
	elsewhere := t.TempDir()
	for dir := elsewhere; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil { // another user passes through
			t.Fatal(err)
		}
	}
	program := filepath.Join(elsewhere, "foundry")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../cmd/foundry").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	auditor := s.realms[0].people[principal.Auditor]
	var keys []audit.PublicKey
	auditor.do(t, "GET", "/audit/keys", nil, &keys)
	status, export := auditor.ask(t, "GET", "/audit/export", nil, nil)
	if status != http.StatusOK {
		t.Fatalf("the export: %d", status)
	}
	vkey := ""
	for _, k := range keys {
		if k.Role == "log" {
			vkey = k.VKey
		}
	}
	verify := func(text string) (int, string) {
		if err := os.WriteFile(filepath.Join(elsewhere, "export.tsv"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), program, "audit", "verify", "--offline", "export.tsv", "--key", vkey)
		cmd.Dir, cmd.Env = elsewhere, []string{}
		if os.Getuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			nosy := exec.CommandContext(t.Context(), "/bin/ls", s.d.DataDir())
			nosy.SysProcAttr = cmd.SysProcAttr
			if nosy.Run() == nil {
				t.Fatal("the auditor's user reads the data directory: this is no other machine")
			}
		}
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), out.String()
	}
	if code, said := verify(export); code != 0 || !strings.Contains(said, "Nothing was changed") {
		t.Fatalf("the export as it is: %d %s", code, said)
	}
	for i := range 24 {
		at := (len(export) - 1) * i / 23
		changed := []byte(export)
		if changed[at] ^= 1; changed[at] == '\r' {
			changed[at] = 'x'
		}
		if code, said := verify(string(changed)); code == 0 {
			t.Errorf("byte %d of %d changed from %q to %q: %s", at, len(export), export[at], changed[at], said)
		}
	}
	if code, _ := verify(export[:len(export)/2]); code == 0 {
		t.Error("half of an export verifies")
	}
}
