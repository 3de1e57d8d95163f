package mirror

import (
	"context"
	"net/netip"
	"strings"
	"testing"
)

func FuzzOutputOfGit(f *testing.F) {
	id := strings.Repeat("a1", 20)
	f.Add(id + " refs/heads/main\n" + id + " refs/tags/v1\n")
	f.Add("ref: refs/heads/main\tHEAD\n" + id + "\tHEAD\n")
	f.Add("ref: refs/heads/../../x\tHEAD\nref: refs/heads/--upload-pack\tHEAD")
	f.Add("fatal: unable to access 'https://x/': The requested URL returned error: 503")
	f.Fuzz(func(t *testing.T, text string) {
		for name, id := range parseRefs(text) {
			if !objectID.MatchString(id) || !strings.HasPrefix(name, "refs/") {
				t.Errorf("%q %q", name, id)
			}
		}
		if b := mainBranch(text); b != "" && (strings.HasPrefix(b, "-") || strings.Contains(b, "..") || strings.ContainsAny(b, " \n\t:")) {
			t.Errorf("branch %q", b)
		}
		if p := known(text); p != nil && (p.Code == "" || p.Mend == "") {
			t.Errorf("%+v", p)
		}
	})
}

func FuzzGitea(f *testing.F) {
	f.Add([]byte(`{"ok":true,"data":[{"name":"app","full_name":"a/app","empty":false,"owner":{"login":"a"}}]}`))
	f.Add([]byte(`[{"name":"..","owner":{"login":"a"}}]`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := parseGitea(text)
		if err != nil {
			return
		}
		for _, r := range list {
			if c := (Config{Name: r.Owner.Login + "+" + r.Name, URL: "https://h/" + r.Owner.Login + "/" + r.Name + ".git"}); strings.ContainsAny(c.Name, "/\\ \x00") || strings.Contains(c.Name, "..") {
				t.Errorf("%+v", c)
			}
		}
	})
}

func FuzzAddress(f *testing.F) {
	for _, s := range []string{"https://example.org/a.git", "ssh://git@host:22/x", "ext::sh -c id", "--upload-pack=id", "file:///x", "https://a@b/c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := Config{Name: "a", URL: text, KnownHosts: "/k"}
		if c.validate("f", false) != nil {
			return
		}
		u, err := c.address()
		if err != nil || u.Scheme != "https" || u.User != nil || strings.HasPrefix(u.String(), "-") || strings.ContainsAny(u.String(), " \n\"'`$") {
			t.Errorf("%q is let in as %q", text, u)
		}
	})
}

func TestOnlyAddressesThatAreMeantAreAsked(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][2]bool{ // public only, private as well
		"93.184.216.34": {true, true}, "2606:2800:220:1::1": {true, true},
		"10.1.2.3": {false, true}, "192.168.0.1": {false, true}, "172.20.0.1": {false, true}, "127.0.0.1": {false, true}, "::1": {false, true},
		"fd12::1": {false, true}, "100.64.1.1": {false, true}, "::ffff:10.0.0.1": {false, true},
		"169.254.169.254": {false, false}, "fe80::1": {false, false}, "0.0.0.0": {false, false}, "::": {false, false}, "224.0.0.1": {false, false},
		"::ffff:169.254.169.254": {false, false}, "fd00:ec2::254": {false, false},
	} {
		a := netip.MustParseAddr(text)
		if got := [2]bool{reachable(a, false), reachable(a, true)}; got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	if _, err := resolve(context.Background(), "localhost", false); err == nil {
		t.Error("this machine's name is let through")
	}
}
