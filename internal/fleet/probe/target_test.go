package probe

import (
	"errors"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/problem"
)

func TestATargetIsReadAndWrittenAgain(t *testing.T) {
	for _, c := range []struct {
		kind         Signal
		in, out      string // "" out: as in
		host         string
		port         uint16
		word, saying string
	}{
		{HTTPS, "https://app.example.org/healthz", "", "app.example.org", 443, "", ""},
		{HTTPS, `https://app.example.org:8443/ contains="all is \"well\"" status=200,3xx days=14`, `https://app.example.org:8443/ status=200,3xx contains="all is \"well\"" days=14`, "app.example.org", 8443, "contains", `all is "well"`},
		{HTTPS, "https://app.example.org/?token=secret", "https://app.example.org/", "app.example.org", 443, "", ""},
		{HTTPS, "https://[2001:db8::1]/ ip=6", "", "2001:db8::1", 443, "ip", "6"},
		{HTTPS, "http://app.example.org/", "", "app.example.org", 80, "", ""},
		{TCP, "app.example.org:5222", "", "app.example.org", 5222, "", ""},
		{TCP, "[::1]:22", "", "::1", 22, "", ""},
		{TLS, "nightingale", "nightingale:443", "nightingale", 443, "", ""},
		{DNS, "app.example.org. type=A answer=192.0.2.1,192.0.2.2 each=yes", "app.example.org type=A answer=192.0.2.1,192.0.2.2 each=yes", "app.example.org", 0, "each", "yes"},
		{SMTP, "mail.example.org:465", "", "mail.example.org", 465, "", ""},
		{PostgreSQL, "node-1", "node-1:5432", "node-1", 5432, "", ""},
		{PostgreSQL, "node-1:6432/app role=standby lag=30s bytes=16MB", "", "node-1", 6432, "lag", "30s"},
		{PostgreSQL, "/var/lib/foundry/postgres/socket:5433", "", "/var/lib/foundry/postgres/socket", 5433, "", ""},
		{PostgreSQL, "/run/postgresql:5433/app", "", "/run/postgresql", 5433, "", ""},
		{SSH, "node-1 allow=publickey,gssapi-with-mic", "node-1:22 allow=publickey,gssapi-with-mic", "node-1", 22, "", ""},
		{Systemd, "caddy", "caddy.service", "", 0, "", ""},
		{Systemd, `postgresql@15-main.service`, "", "", 0, "", ""},
		{Git, "https://git.example.org/app.git ref=refs/heads/main clone=yes", "", "git.example.org", 443, "ref", "refs/heads/main"},
		{Git, "ssh://git@git.example.org/app.git", "", "git.example.org", 22, "", ""},
		{Disk, "/var/lib/foundry/ free=20GB inodes=3%", "/var/lib/foundry free=20GB inodes=3%", "", 0, "free", "20GB"},
		{BackupAge, "nightly max=26h", "", "", 0, "max", "26h"},
		{Model, "node-5 model=llama3.2:3b", "", "", 0, "model", "llama3.2:3b"},
		{Model, "https://ai.example.org/v1", "", "ai.example.org", 443, "", ""},
		{Unreachable, "node-3:5432 control=node-2:443,[::1]:22", "", "node-3", 5432, "", ""},
		{Unreachable, "node-3:53 protocol=udp send=dns", "", "node-3", 53, "", ""},
	} {
		t.Run(string(c.kind)+" "+c.in, func(t *testing.T) {
			got, err := Parse(c.kind, c.in)
			if err != nil {
				t.Fatal(err)
			}
			if c.out == "" {
				c.out = c.in
			}
			if got.String() != c.out || got.Host != c.host || got.Port != c.port || c.word != "" && got.word(c.word, "") != c.saying {
				t.Fatalf("read as %q, host %q, port %d, words %v", got, got.Host, got.Port, got.words)
			}
			if again, err := Parse(c.kind, got.String()); err != nil || again.String() != got.String() {
				t.Fatalf("written as %q it reads as %q, %v", got, again, err)
			}
		})
	}
}

func TestATargetThatCannotBeReadSaysHowToWriteIt(t *testing.T) {
	for _, c := range []struct {
		kind     Signal
		in, says string
	}{
		{"htps", "https://x", "Did you mean https?"},
		{"carrier-pigeon", "x", "Write one of https"},
		{HTTPS, "", "empty"},
		{HTTPS, "app.example.org", "no URL"},
		{HTTPS, "ftp://app.example.org", "ftp:// is not looked at"},
		{HTTPS, "https://user:hunter2@app.example.org", "credential"},
		{HTTPS, "https://app.example.org:99999/", "port"},
		{HTTPS, "https://app.example.org/ contain=x", "did you mean contains="},
		{HTTPS, "https://app.example.org/ contains=\"x", "not closed"},
		{HTTPS, "https://app.example.org/ contains=\"x\"y", "follows the closing quote"},
		{HTTPS, "https://app.example.org/ days=14 days=15", "there twice"},
		{HTTPS, "https://app.example.org/ days=-1", "number from 0"},
		{HTTPS, "https://app.example.org/ status=700", "no HTTP status"},
		{HTTPS, "https://app.example.org/ tls=1.1", "one of 1.2, 1.3"},
		{HTTPS, "https://app.example.org/ healthy", "form name=value"},
		{HTTPS, "https://app.example.org/ plaintext=yes", "is for http://"},
		{HTTPS, "https://müller.example/", "xn--"},
		{HTTPS, "https://app.example.org/\nHost: evil", "one line"},
		{TCP, "app.example.org", "names no port"},
		{TCP, "app.example.org:http", "no port"},
		{TCP, "::1:22", "brackets"},
		{TCP, "https://app.example.org:22", "not a URL"},
		{TCP, "a:1 b", "form name=value"},
		{DNS, "192.0.2.1", "address, not a name"},
		{DNS, strings.Repeat("a", 64) + ".org", "63 letters"},
		{DNS, "x.org each=yes server=192.0.2.1", "exclude each other"},
		{PostgreSQL, "postgres://u:p@h/db", "not a connection string"},
		{PostgreSQL, "node-1 lag=30s", "need role=standby"},
		{SSH, "node-1 host-key=abc", "SHA256"},
		{Systemd, "../../etc", "no unit"},
		{Systemd, "--help", "no unit"},
		{Git, "https://git.example.org", "address of a repository"},
		{Git, "ext::sh -c id", "no URL"},
		{Git, "ssh://-oProxyCommand=id/x", "no host name"},
		{Git, "https://git.example.org/a.git ref=--upload-pack=id", "begins with refs/"},
		{Disk, "var", "begin with /"},
		{Disk, "/ free=much", "not a size"},
		{BackupAge, "nightly max=regularly", "no length of time"},
		{Unreachable, "node-3:22 control=node-2", "names no port"},
		{Unreachable, "node-3:22 send=dns", "needs protocol=udp"},
		{Systemd, "caddy ip=4", "nothing after its address"},
		{HTTPS, "https://x/" + strings.Repeat("a", 3000), "at most 2048"},
	} {
		t.Run(string(c.kind)+" "+c.in[:min(len(c.in), 60)], func(t *testing.T) {
			_, err := Parse(c.kind, c.in)
			var p *problem.Error
			if !errors.As(err, &p) || p.Kind != problem.Invalid || p.Mend == "" || p.Field == "" {
				t.Fatalf("got %v", err)
			}
			if !strings.Contains(p.Error(), c.says) {
				t.Fatalf("%q does not say %q", p.Error(), c.says)
			}
			if strings.Contains(p.Error(), "hunter2") {
				t.Fatal("the error repeats a credential")
			}
		})
	}
}

func TestEveryExampleOfTheGrammarReads(t *testing.T) {
	for _, g := range Grammars() {
		example := strings.ReplaceAll(g.Example, "SHA256:…", "SHA256:"+strings.Repeat("A", 43))
		if _, err := Parse(g.Kind, example); err != nil {
			t.Errorf("%s: %v", g.Kind, err)
		}
		if !strings.Contains(g.Help(), g.Example) {
			t.Errorf("%s: the help has no example", g.Kind)
		}
	}
}

func TestASpecWithATargetThatCannotBeReadIsInconclusive(t *testing.T) {
	r := Run(t.Context(), Spec{Name: "p", Kind: HTTPS, Target: "https://u:hunter2@h/"}, Env{})
	if r.OK || !r.Inconclusive || r.Code != BadTarget || strings.Contains(r.Words, "hunter2") {
		t.Fatalf("%+v", r)
	}
}

func FuzzTarget(f *testing.F) {
	for _, g := range grammars {
		f.Add(string(g.Kind), g.Example)
	}
	f.Add("https", `https://a/ contains="\\\"" status=200`)
	f.Add("postgresql", "/a/b:1")
	f.Add("tcp", "[::1%25eth0]:22")
	f.Fuzz(func(t *testing.T, kind, in string) {
		got, err := Parse(Signal(kind), in)
		if err != nil {
			if problem.From(err).Kind != problem.Invalid {
				t.Fatalf("%q: %v", in, err)
			}
			return
		}
		out := got.String()
		again, err := Parse(Signal(kind), out)
		if err != nil {
			t.Fatalf("%q was read and written as %q, which is not read: %v", in, out, err)
		}
		if again.String() != out {
			t.Fatalf("%q became %q, then %q", in, out, again)
		}
	})
}
