package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/principal"
)

// What staff write for others to read. It is not secret from whoever has the
// database's files, and the threat model says so; it is from whoever has the
// backups alone.
const (
	canaryReason    = "canaryreason5Rt8 the client reports wrong answers"
	canaryTicket    = "canaryticket6Yh3"
	canaryStatement = "canarystatement2Bn7 it is in the safe"
)

// openings are how files begin that no key is needed for: what compresses, and
// what the engines write where they do not encrypt. None is so short that what
// is encrypted would begin so by chance.
var openings = map[string][]byte{"zstd": {0x28, 0xb5, 0x2f, 0xfd}, "gzip": {0x1f, 0x8b, 0x08}, "lz4": {0x04, 0x22, 0x4d, 0x18}, "bzip2": []byte("BZh"),
	"xz": {0xfd, '7', 'z', 'X', 'Z'}, "pgBackRest": []byte("[backrest]"), "JSON": []byte(`{"`)}

// TestAnOutsiderWithTheFilesAndTheBackupsLearnsNothing: as
// TestAnOutsiderWithEveryFileLearnsNothing, with the repositories of backups
// and the emergency kits beside them, and not the shares of the recovery key.
func TestAnOutsiderWithTheFilesAndTheBackupsLearnsNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("makes backups")
	}
	for _, program := range []string{"pgbackrest", "restic"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(program + " is not installed")
		}
	}
	shelf := t.TempDir()
	for dir := shelf; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil { // the database's user passes through
			t.Fatal(err)
		}
	}
	w, err := production(func(c *daemon.Config) {
		c.Node.Supplier, c.Node.Account = "ours", "ours-1"
		c.Backup.Targets = []target.Config{{Name: "shelf", Kind: target.Directory, Path: shelf, Supplier: "theirs", Account: "theirs-1", Host: "elsewhere", Country: "FI"}}
	})
	if err == errOneVolume {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.stop(); err != nil {
			t.Error(err)
		}
	})
	p := w.peopled(t)
	secrets := p.secrets(t)
	var job backup.Job
	until(t, 2*time.Minute, "the node's own first backups to be over", func() (bool, string) {
		status, text := p.operator.ask(t, "POST", "/backups", map[string]any{}, &job)
		return status < 300, text
	})
	until(t, 2*time.Minute, "a backup of everything", func() (bool, string) {
		p.operator.do(t, "GET", "/backup-jobs/"+job.ID.String(), nil, &job)
		return job.State != backup.Running, fmt.Sprintf("%+v", job)
	})
	if job.State != backup.Done || len(job.Runs) < 2 {
		t.Errorf("the backup: %+v", job)
	}
	list, read := lying(w.d.DataDir(), secrets)
	more, stored := lying(shelf, secrets)
	for _, leak := range append(list, more...) {
		t.Error(leak)
	}
	for name, all := range secrets {
		for _, form := range all {
			if bytes.Contains([]byte(w.log.String()), form) {
				t.Errorf("the log holds %s", name)
			}
		}
	}
	// What is in plain in the database is not in the backups.
	plain := map[string][][]byte{"a reason": forms(canaryReason), "a ticket": forms(canaryTicket), "a statement": forms(canaryStatement), "a name": forms(p.org)}
	for name, all := range plain {
		if in, _ := lying(filepath.Join(w.d.DataDir(), "postgres"), map[string][][]byte{name: all}); len(in) == 0 {
			t.Errorf("%s is no longer in the database's files in plain: the threat model says that it is", name)
		}
	}
	if in, _ := lying(shelf, plain); len(in) > 0 {
		t.Errorf("the backups hold in plain: %v", in)
	}
	kits, size := opaque(t, shelf)
	if kits == 0 || stored < 20 || size < 1<<20 || read < 500 {
		t.Errorf("%d kits, %d files of backups (%d bytes) and %d of the node: the search proves nothing", kits, stored, size, read)
	}
	t.Logf("%d secrets in %d files of the node and %d of the backups (%d bytes), with %d kits", len(secrets), read, stored, size, kits)
}

// opaque checks that what lies at a target is encrypted, and counts the kits
// and the bytes of everything else.
func opaque(t *testing.T, dir string) (kits, size int) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.HasPrefix(d.Name(), "foundry-kit") {
			kits++
			return nil
		}
		if d.Name() == "foundry-target.json" {
			// By which the volume is recognised: its own name and a random word.
			var mark map[string]any
			if err := json.Unmarshal(body, &mark); err != nil || len(mark) != 3 || mark["version"] == nil || mark["id"] == nil || mark["name"] == nil {
				t.Errorf("the mark of a target says more than it should: %s", body)
			}
			return nil
		}
		size += len(body)
		for name, opening := range openings {
			if bytes.HasPrefix(body, opening) && !isRepositoryKey(path) {
				t.Errorf("%s begins as %s does: %.40q", strings.TrimPrefix(path, dir), name, body)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return kits, size
}

// isRepositoryKey: restic keeps its master key in keys/, encrypted under the
// passphrase, in JSON.
func isRepositoryKey(path string) bool { return filepath.Base(filepath.Dir(path)) == "keys" }

// until waits for what takes longer than an answer may.
func until(t *testing.T, long time.Duration, what string, done func() (bool, string)) {
	t.Helper()
	deadline := time.Now().Add(long)
	for {
		ok, state := done()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waiting for %s: %s", what, state)
		}
		<-time.After(200 * time.Millisecond) // what is waited for takes seconds
	}
}

// populace is who and what is on the node with backups.
type populace struct {
	org                             string
	head, operator, security, admin *somebody
	token, invited                  string
	made                            backup.MadeKey
}

func (w *world) peopled(t *testing.T) *populace {
	t.Helper()
	p := &populace{org: "st-mary-of-the-backups"}
	var first, invited api.Invitation
	w.must(t, "POST", "/people/bootstrap", map[string]any{"email": "canary-first@example.org", "name": "Canaria First"}, &first)
	p.head = w.enrolled(t, first.Token, "canary-first@example.org")
	p.operator, p.security = p.head.hire(t, "", principal.PlatformOperator), p.head.hire(t, "", principal.PlatformSecurity)
	p.head.do(t, "POST", "/organisations", map[string]any{"name": p.org, "policy": anywhere()}, nil)
	p.admin = p.head.hire(t, p.org, principal.Administrator)
	var k api.Key
	p.admin.do(t, "POST", "/keys", map[string]any{"organisation": p.org, "name": "app"}, &k)
	p.token = k.Token
	p.admin.do(t, "POST", "/invitations", map[string]any{"organisation": p.org, "email": "canary-invited@example.org", "name": "Canaria Invited", "roles": []string{"viewer"}}, &invited)
	p.invited = invited.Token
	w.post(t, p.token, "/v1/chat/completions", `{"model":"simulator-chat","messages":[{"role":"user","content":"`+canaryPrompt+`"}]}`)
	p.operator.do(t, "POST", "/grants", map[string]any{"organisation": p.org, "scopes": []string{"requests"}, "reason": canaryReason, "ticket": canaryTicket, "duration": "1h"}, nil)
	p.security.do(t, "POST", "/controls/O-07.escrow/attestations", map[string]any{"owner": "platform-security", "statement": canaryStatement}, nil)
	var asked struct{ ID string }
	p.security.do(t, "POST", "/emergency/keys", map[string]any{"threshold": 2, "shares": 3, "holders": []string{"Canaria Holder", "Grace", "Edith"}, "briefing": "canary briefing: room 7",
		"contacts": []map[string]any{{"name": "Canaria Contact", "role": "holds share 1", "phone": "+358 9 555 0174"}}, "reason": "the first recovery key"}, &asked)
	p.head.do(t, "POST", "/emergency/keys/"+asked.ID+"/decision", map[string]any{"approve": true}, nil)
	p.security.do(t, "POST", "/emergency/keys/"+asked.ID+"/shares", nil, &p.made)
	if len(p.made.Shares) != 3 {
		t.Fatalf("%d shares", len(p.made.Shares))
	}
	return p
}

// secrets are in every form what an outsider must not find.
func (p *populace) secrets(t *testing.T) map[string][][]byte {
	t.Helper()
	secretOf := func(token string) string { return token[len("fdy_")+10:][:32] }
	texts := map[string]string{"the password": password, "a prompt": canaryPrompt, "an API key": secretOf(p.token), "an invitation": secretOf(p.invited),
		"an invited address": "canary-invited@example.org", "an invited name": "Canaria Invited", "the first name": "Canaria First",
		"a holder of a share": "Canaria Holder", "a contact": "Canaria Contact", "a contact's number": "+358 9 555 0174", "the briefing": "canary briefing: room 7"}
	for _, share := range p.made.Shares {
		n := len(share.Words)
		texts[fmt.Sprintf("share %d in words", share.Index)] = strings.Join(share.Words[n/2:], " ")
		texts[fmt.Sprintf("share %d", share.Index)] = share.Text[len(share.Text)/2:]
	}
	for name, who := range map[string]*somebody{"head": p.head, "operator": p.operator, "security": p.security, "administrator": p.admin} {
		texts[name+"'s session"], texts[name+"'s address"], texts[name+"'s authenticator"] = secretOf(who.token), who.email, who.totp
		for i, code := range who.recovery {
			texts[fmt.Sprintf("%s's recovery code %d", name, i)] = code
		}
	}
	out := map[string][][]byte{}
	for name, text := range texts {
		if len(text) < 8 {
			t.Fatalf("%s is %q: the search would prove nothing", name, text)
		}
		out[name] = forms(text)
	}
	return out
}
