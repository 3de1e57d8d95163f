package target

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/problem"
)

func bucket(endpoint string) Target {
	return Target{Config: Config{Name: "far", Kind: S3Bucket, Supplier: "Supplier B", Account: "backups@b", Country: "DE", S3: &S3Config{Endpoint: endpoint, Bucket: "b"}}}
}

func server(host string) Target {
	return Target{Config: Config{Name: "far", Kind: SFTPHost, Path: "/b", Supplier: "Supplier B", Account: "backups@b", Country: "DE", SFTP: &SFTPConfig{Host: host}}}
}

func rules(found []Finding) (out []string) {
	for _, f := range found {
		rule := f.Rule
		if f.Fatal {
			rule += "!"
		}
		out = append(out, rule)
	}
	slices.Sort(out)
	return out
}

func TestWhatSharesAFateWithTheData(t *testing.T) {
	dir := t.TempDir()
	data, near := filepath.Join(dir, "data"), filepath.Join(dir, "near")
	for _, d := range []string{data, near} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(near, link); err != nil {
		t.Fatal(err)
	}
	own, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	node := Place{Paths: []string{data}, Host: "node1.example.eu", Account: "main@a", Supplier: "Supplier A", Country: "FI"}
	on := func(path string) Target {
		return Target{Config: Config{Name: "far", Kind: Directory, Path: path, Supplier: "Supplier B", Account: "backups@b", Country: "DE"}}
	}
	with := func(t Target, change func(*Target)) Target { change(&t); return t }
	for name, c := range map[string]struct {
		t    Target
		want string
	}{
		"a bucket elsewhere":              {bucket("s3.example.eu"), ""},
		"a bucket elsewhere, with a port": {bucket("s3.example.eu:9000"), ""},
		"a server elsewhere":              {server("backup.example.eu"), ""},
		"a directory on the same volume":  {on(near), "same-volume!"},
		"the same through a link":         {on(link), "same-volume!"},
		"inside the data":                 {on(data), "same-volume!"},
		"around the data":                 {on(dir), "same-volume!"},
		"a directory that is not there":   {on(filepath.Join(dir, "gone")), "volume-gone"},
		"a bucket on localhost":           {bucket("localhost:9000"), "same-host!"},
		"a bucket on a loopback address":  {bucket("127.0.0.1:9000"), "same-host!"},
		"a bucket on a v6 loopback":       {bucket("[::1]:9000"), "same-host!"},
		"a server of this machine's name": {server(own), "same-host!"},
		"a server of the node's name":     {server("node1.example.eu"), "same-host!"},
		"a server of its short name":      {server("NODE1"), "same-host!"},
		"another that begins alike":       {server("node1.example.eu.org"), ""},
		"the same supplier":               {with(bucket("s3.example.eu"), func(t *Target) { t.Supplier = " supplier a" }), "same-supplier!"},
		"the same account":                {with(bucket("s3.example.eu"), func(t *Target) { t.Account = "MAIN@a" }), "same-account!"},
		"nothing recorded":                {with(bucket("s3.example.eu"), func(t *Target) { t.Account, t.Supplier, t.Country = "", "", "" }), "account-unknown! country-unknown! supplier-unknown!"},
		"outside the allowed countries":   {with(bucket("s3.example.eu"), func(t *Target) { t.Country = "US" }), "country-outside!"},
		"no country at all":               {with(bucket("s3.example.eu"), func(t *Target) { t.Country = "Utopia" }), "country-outside!"},
		"a US cloud in Frankfurt":         {bucket("s3.eu-central-1.amazonaws.com"), "supplier-outside!"},
		"a US cloud, in capitals":         {bucket("S3.EU-CENTRAL-1.AMAZONAWS.COM."), "supplier-outside!"},
		"a name that only looks like one": {bucket("notamazonaws.com"), ""},
		"a second name of this machine":   {with(server("other.example.eu"), func(t *Target) { t.addresses = ownAddresses() }), "same-host!"},
	} {
		t.Run(name, func(t *testing.T) {
			found := c.t.Apart(node, true)
			if got := strings.Join(rules(found), " "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			for _, f := range found {
				if f.Field == "" || f.Detail == "" || f.Mend == "" {
					t.Errorf("incomplete: %+v", f)
				}
			}
			for _, f := range c.t.Apart(node, false) {
				if strings.HasSuffix(f.Rule, "-unknown") {
					t.Errorf("development asks for %s", f.Rule)
				}
			}
		})
	}
	allowed := node
	allowed.Allowed = []string{"CH"}
	if got := rules(bucket("s3.example.eu").Apart(allowed, true)); !slices.Equal(got, []string{"country-outside!"}) {
		t.Errorf("a country that is not among the allowed: %q", got)
	}
	british := node
	british.Country = "GB"
	if got := rules(with(bucket("s3.example.eu"), func(t *Target) { t.Country = "GB" }).Apart(british, true)); len(got) != 0 {
		t.Errorf("the node's own country: %q", got)
	}
}

func ownAddresses() (out []netip.Addr) {
	interfaces, _ := net.InterfaceAddrs()
	for _, a := range interfaces {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Addr())
		}
	}
	return out
}

// A disk of this machine is another volume, but not another machine.
func TestAnotherDiskOfThisMachineIsNotApart(t *testing.T) {
	dir := t.TempDir()
	other := "/dev/shm"
	a, _, err := volumeOf(dir)
	b, _, err2 := volumeOf(other)
	if err != nil || err2 != nil || a == b {
		t.Skip("there is no second volume here")
	}
	node := Place{Paths: []string{dir}, Host: "node1", Account: "main@a", Supplier: "Supplier A", Country: "FI"}
	at := Target{Config: Config{Name: "far", Kind: Directory, Path: other, Supplier: "Supplier B", Account: "backups@b", Country: "DE"}}
	if got := rules(at.Apart(node, true)); !slices.Equal(got, []string{"same-host!"}) {
		t.Errorf("got %q", got)
	}
	at.Host = "storage1.example.eu"
	if got := rules(at.Apart(node, true)); !slices.Equal(got, []string{"host-claimed"}) {
		t.Errorf("with a host named: got %q", got)
	}
	at.Host = "node1"
	if got := rules(at.Apart(node, true)); !slices.Equal(got, []string{"same-host!"}) {
		t.Errorf("with its own host named: got %q", got)
	}
}

func secretFile(t *testing.T, text string) config.Secret {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Secret{File: path}
}

func TestMistakesInATargetAreNamed(t *testing.T) {
	key := secretFile(t, "key")
	s3 := func() *S3Config {
		return &S3Config{Endpoint: "s3.example.eu", Bucket: "backups", Key: key, Secret: key}
	}
	sftp := func() *SFTPConfig { return &SFTPConfig{Host: "h.example.eu", User: "u", Key: key, KnownHosts: "/k"} }
	for name, c := range map[string]struct {
		c     Config
		field string // empty: all is well
	}{
		"a directory":              {Config{Name: "far", Kind: Directory, Path: "/mnt/far"}, ""},
		"a bucket":                 {Config{Name: "far", Kind: S3Bucket, S3: s3()}, ""},
		"a server":                 {Config{Name: "far", Kind: SFTPHost, Path: "b", SFTP: sftp()}, ""},
		"no name":                  {Config{Kind: Directory, Path: "/mnt/far"}, ".name"},
		"a name with a slash":      {Config{Name: "a/b", Kind: Directory, Path: "/mnt/far"}, ".name"},
		"a name of ours":           {Config{Name: "cluster", Kind: Directory, Path: "/mnt/far"}, ".name"},
		"no kind":                  {Config{Name: "far", Path: "/mnt/far"}, ".kind"},
		"two kinds":                {Config{Name: "far", Kind: S3Bucket, S3: s3(), SFTP: sftp()}, ".kind"},
		"a relative directory":     {Config{Name: "far", Kind: Directory, Path: "far"}, ".path"},
		"the root":                 {Config{Name: "far", Kind: Directory, Path: "//"}, ".path"},
		"a line break":             {Config{Name: "far", Kind: Directory, Path: "/mnt/far\nrepo1-cipher-type=none"}, ".path"},
		"a URL":                    {Config{Name: "far", Kind: S3Bucket, S3: &S3Config{Endpoint: "https://s3.example.eu", Bucket: "backups", Key: key, Secret: key}}, ".s3.endpoint"},
		"a bad port":               {Config{Name: "far", Kind: S3Bucket, S3: &S3Config{Endpoint: "s3.example.eu:http", Bucket: "backups", Key: key, Secret: key}}, ".s3.endpoint"},
		"a bad bucket":             {Config{Name: "far", Kind: S3Bucket, S3: &S3Config{Endpoint: "s3.example.eu", Bucket: "B", Key: key, Secret: key}}, ".s3.bucket"},
		"a key without its secret": {Config{Name: "far", Kind: S3Bucket, S3: &S3Config{Endpoint: "s3.example.eu", Bucket: "backups", Key: key}}, ".s3.key"},
		"a way out of the prefix":  {Config{Name: "far", Kind: S3Bucket, Path: "a/../..", S3: s3()}, ".path"},
		"a host that is an option": {Config{Name: "far", Kind: SFTPHost, Path: "b", SFTP: &SFTPConfig{Host: "-oProxyCommand=id", User: "u", Key: key, KnownHosts: "/k"}}, ".sftp.host"},
		"a user that is an option": {Config{Name: "far", Kind: SFTPHost, Path: "b", SFTP: &SFTPConfig{Host: "h", User: "-l", Key: key, KnownHosts: "/k"}}, ".sftp.user"},
		"an unknown host key":      {Config{Name: "far", Kind: SFTPHost, Path: "b", SFTP: &SFTPConfig{Host: "h", User: "u", Key: key}}, ".sftp.known_hosts"},
		"an engine that is none":   {Config{Name: "far", Kind: Directory, Path: "/mnt/far", Engines: []string{"restic", "tar"}}, ".engines[1]"},
		"the database over SFTP":   {Config{Name: "far", Kind: SFTPHost, Path: "b", SFTP: sftp(), Engines: []string{"pgbackrest"}}, ".engines[0]"},
		"no country":               {Config{Name: "far", Kind: Directory, Path: "/mnt/far", Country: "Utopia"}, ".country"},
		"a lock on a directory":    {Config{Name: "far", Kind: Directory, Path: "/mnt/far", Lock: &LockConfig{Mode: ObjectLock, Days: 3}}, ".lock.mode"},
		"a lock for no time":       {Config{Name: "far", Kind: S3Bucket, S3: s3(), Lock: &LockConfig{Mode: ObjectLock}}, ".lock.days"},
		"a lock of no kind":        {Config{Name: "far", Kind: S3Bucket, S3: s3(), Lock: &LockConfig{Mode: "worm"}}, ".lock.mode"},
		"a negative quota":         {Config{Name: "far", Kind: Directory, Path: "/mnt/far", QuotaGB: -1}, ".quota_gb"},
	} {
		err := c.c.Validate("backup.targets[0]")
		if c.field == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if p := problem.From(err); err == nil || p.Field != "backup.targets[0]"+c.field || p.Mend == "" {
			t.Errorf("%s: got %v, want a mistake at %s", name, err, c.field)
		}
	}
}

func TestATargetNeverPrintsItsCredentials(t *testing.T) {
	at, err := Open(Config{Name: "far", Kind: S3Bucket, S3: &S3Config{Endpoint: "localhost:1", Bucket: "backups", Key: secretFile(t, "canary-key\n"), Secret: secretFile(t, "canary-secret")}}, "f")
	if err != nil || at.S3Key != "canary-key" || at.S3Secret != "canary-secret" {
		t.Fatalf("%v, %v", at, err)
	}
	for _, text := range []string{fmt.Sprintf("%v", at), fmt.Sprintf("%+v", at), fmt.Sprintf("%#v", at), at.String()} {
		if strings.Contains(text, "canary") {
			t.Errorf("it prints as %s", text)
		}
	}
}

func TestSpaceIsWhatTheVolumeHas(t *testing.T) {
	dir := t.TempDir()
	at := Target{Config: Config{Name: "far", Kind: Directory, Path: dir}}
	free, total, err := at.Space(t.Context())
	var fs syscall.Statfs_t
	if serr := syscall.Statfs(dir, &fs); serr != nil {
		t.Fatal(serr)
	}
	if err != nil || free <= 0 || total < free || total != int64(fs.Blocks)*int64(fs.Bsize) {
		t.Fatalf("%d of %d, %v", free, total, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "stored"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	at.QuotaGB = 1
	if free, total, err = at.Space(t.Context()); err != nil || total != 1<<30 || free != 1<<30-1<<20 {
		t.Errorf("of a quota of 1 GiB %d of %d are free, %v", free, total, err)
	}
	at.Path = filepath.Join(dir, "gone")
	if _, _, err := at.Space(t.Context()); problem.From(err).Code != "target-gone" {
		t.Errorf("got %v", err)
	}
	if _, _, err := bucket("s3.example.eu").Space(t.Context()); problem.From(err).Code != "space-unknown" || problem.From(err).Mend == "" {
		t.Errorf("got %v", err)
	}
}

func TestATargetServesTheEnginesOfItsKind(t *testing.T) {
	for _, c := range []struct {
		kind    string
		engines []string
		engine  string
		want    bool
	}{
		{Directory, nil, "pgbackrest", true},
		{SFTPHost, nil, "pgbackrest", false},
		{SFTPHost, nil, "restic", true},
		{S3Bucket, []string{"restic"}, "pgbackrest", false},
		{S3Bucket, []string{"restic"}, "restic", true},
	} {
		if got := (Target{Config: Config{Kind: c.kind, Engines: c.engines}}).Serves(c.engine); got != c.want {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}
