package keys

import (
	"context"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// luks is a disk with an encrypted volume for the data, as lsblk shows it; the
// root and a swap partition lie beside it in the clear.
const luks = `{"blockdevices": [
 {"name":"sda","kname":"sda","type":"disk","maj:min":"8:0","fstype":null,"children":[
  {"name":"sda1","kname":"sda1","type":"part","maj:min":"8:1","fstype":"ext4"},
  {"name":"sda2","kname":"sda2","type":"part","maj:min":"8:2","fstype":"swap"},
  {"name":"sda3","kname":"sda3","type":"part","maj:min":"8:3","fstype":"crypto_LUKS","children":[
   {"name":"data","kname":"dm-0","type":"crypt","maj:min":"253:0","fstype":"LVM2_member","children":[
    {"name":"vg-data","kname":"dm-1","type":"lvm","maj:min":"253:1","fstype":"ext4"},
    {"name":"vg-swap","kname":"dm-2","type":"lvm","maj:min":"253:2","fstype":"swap"}]}]}]},
 {"name":"sdb","kname":"sdb","type":"disk","maj:min":"8:16","fstype":"linux_raid_member","children":[
  {"name":"md0","kname":"md0","type":"raid1","maj:min":"9:0","fstype":"ext4"}]},
 {"name":"sdc","kname":"sdc","type":"disk","maj:min":"8:32","fstype":"crypto_LUKS","children":[
  {"name":"half","kname":"dm-3","type":"crypt","maj:min":"253:3","fstype":"linux_raid_member","children":[
   {"name":"md0","kname":"md0","type":"raid1","maj:min":"9:0","fstype":"ext4"}]}]}]}`

// status is what cryptsetup says.
const status = `/dev/mapper/data is active and is in use.
  type:    LUKS2
  cipher:  aes-xts-plain64
  keysize: 512 bits
  key location: keyring
  device:  /dev/sda3
  mode:    read/write
`

// nodeOf is a machine made of fixtures.
func nodeOf(t *testing.T, device string, change func(n *Node, proc func(path, text string), answers map[string]string)) Node {
	t.Helper()
	root := t.TempDir()
	proc := func(path, text string) {
		t.Helper()
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, full, text)
	}
	answers := map[string]string{"lsblk": luks, "cryptsetup": status}
	n := Node{DataDir: keyDir(t), Root: root,
		Device: func(string) (string, error) { return device, nil },
		Limits: func() (uint64, int, error) { return 0, 0, nil },
		Run: func(_ context.Context, name string, _ ...string) ([]byte, error) {
			if answers[name] == "" {
				return nil, errors.New("not installed")
			}
			return []byte(answers[name]), nil
		}}
	proc("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n")
	proc("proc/sys/kernel/core_pattern", "core\n")
	if change != nil {
		change(&n, proc, answers)
	}
	return n
}

type edit = func(n *Node, proc func(path, text string), answers map[string]string)

func TestTheStorageReport(t *testing.T) {
	swap := func(line string) edit {
		return func(_ *Node, proc func(string, string), _ map[string]string) {
			proc("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n"+line+"\n")
		}
	}
	core := func(limit uint64, dumpable int, pattern string) edit {
		return func(n *Node, proc func(string, string), _ map[string]string) {
			n.Limits = func() (uint64, int, error) { return limit, dumpable, nil }
			proc("proc/sys/kernel/core_pattern", pattern+"\n")
		}
	}
	mode := func(path string, perm os.FileMode) edit {
		return func(n *Node, _ func(string, string), _ map[string]string) {
			full := filepath.Join(n.DataDir, path)
			_ = os.MkdirAll(filepath.Dir(full), 0o700)
			_ = os.WriteFile(full, nil, 0o600)
			_ = os.Chmod(full, perm)
		}
	}
	answer := func(name, text string) edit {
		return func(_ *Node, _ func(string, string), answers map[string]string) { answers[name] = text }
	}
	for name, c := range map[string]struct {
		device, check, want, says string
		change                    edit
	}{
		"LVM on LUKS":                       {"253:1", "volume", Pass, "aes-xts-plain64, 512 bits: sda (disk) → sda3 (part) → data (crypt) → vg-data (lvm)", nil},
		"a plain partition":                 {"8:1", "volume", Fail, "not encrypted: sda (disk) → sda1 (part)", nil},
		"a mirror with one half in clear":   {"9:0", "volume", Fail, "not encrypted: sdb (disk)", nil},
		"AES-128":                           {"253:1", "volume", Fail, "not AES-256", answer("cryptsetup", strings.Replace(status, "512", "256", 1))},
		"another cipher":                    {"253:1", "volume", Fail, "not AES-256", answer("cryptsetup", strings.Replace(status, "aes", "serpent", 1))},
		"no cryptsetup":                     {"253:1", "volume", Inconclusive, "cipher could not be read", answer("cryptsetup", "")},
		"cryptsetup that says nothing":      {"253:1", "volume", Inconclusive, "no cipher", answer("cryptsetup", "is inactive\n")},
		"no lsblk":                          {"253:1", "volume", Inconclusive, "lsblk: not installed", answer("lsblk", "")},
		"lsblk that answers something else": {"253:1", "volume", Inconclusive, "no JSON", answer("lsblk", "NAME")},
		"a container":                       {"0:49", "volume", Inconclusive, "container", nil},
		"btrfs on LUKS, by its mount": {"0:31", "volume", Pass, "data (crypt)", func(n *Node, proc func(string, string), _ map[string]string) {
			proc("proc/self/mountinfo", "22 1 0:30 / / rw - ext4 /dev/sda1 rw\n29 22 0:31 / "+n.DataDir+" rw,relatime shared:1 - btrfs /dev/mapper/vg-data rw\n")
		}},
		"no swap":              {"253:1", "swap", Pass, "there is none", nil},
		"swap in clear":        {"253:1", "swap", Fail, "/dev/sda2: not encrypted", swap("/dev/sda2 partition 1 0 -2")},
		"swap on LUKS":         {"253:1", "swap", Pass, "encrypted with aes", swap("/dev/dm-2 partition 1 0 -2")},
		"a swap file":          {"253:1", "swap", Pass, "encrypted with aes", swap("/swapfile file 1 0 -2")},
		"a swap file in clear": {"8:1", "swap", Fail, "not encrypted", swap("/swapfile file 1 0 -2")},
		"zram":                 {"253:1", "swap", Pass, "in memory", swap("/dev/zram0 partition 1 0 100")},
		"zram that writes back": {"253:1", "swap", Inconclusive, "/dev/sda2", func(n *Node, proc func(string, string), a map[string]string) {
			swap("/dev/zram0 partition 1 0 100")(n, proc, a)
			proc("sys/block/zram0/backing_dev", "/dev/sda2\n")
		}},
		"swap nobody knows": {"253:1", "swap", Inconclusive, "none that lsblk shows", swap("/dev/nbd0 partition 1 0 100")},
		"no /proc/swaps": {"253:1", "swap", Inconclusive, "could not be read", func(n *Node, _ func(string, string), _ map[string]string) {
			_ = os.Remove(filepath.Join(n.Root, "proc/swaps"))
		}},
		"not dumpable":                {"253:1", "core dumps", Pass, "makes none", core(math.MaxUint64, 0, "|/usr/lib/systemd/systemd-coredump %P")},
		"a limit of nothing":          {"253:1", "core dumps", Pass, "makes none", core(0, 1, "core")},
		"a handler ignores the limit": {"253:1", "core dumps", Fail, "systemd-coredump keeps them", core(0, 1, "|/usr/lib/systemd/systemd-coredump %P")},
		"a limit that lets through":   {"253:1", "core dumps", Fail, "unlimited", core(math.MaxUint64, 1, "core")},
		"limits that cannot be read": {"253:1", "core dumps", Inconclusive, "could not be read", func(n *Node, _ func(string, string), _ map[string]string) {
			n.Limits = func() (uint64, int, error) { return 0, 0, errors.New("no") }
		}},
		"all closed":              {"253:1", "file modes", Pass, "only the owner", mode("keys/kek", 0o600)},
		"a key for the group":     {"253:1", "file modes", Fail, "keys/kek (0640)", mode("keys/kek", 0o640)},
		"a socket's neighbour":    {"253:1", "file modes", Fail, "snapshot.sealed (0644)", mode("snapshot.sealed", 0o644)},
		"a certificate is public": {"253:1", "file modes", Pass, "only the owner", mode("ca/ca.pem", 0o644)},
	} {
		t.Run(name, func(t *testing.T) {
			r := nodeOf(t, c.device, c.change).Storage(t.Context())
			for _, got := range r.Checks {
				if got.Name != c.check {
					continue
				}
				if got.State != c.want || !strings.Contains(got.Detail, c.says) || got.State != Pass && got.Mend == "" && got.Name != "file modes" && c.want == Fail {
					t.Errorf("%+v, want %s with %q", got, c.want, c.says)
				}
			}
			if c.want == Fail && r.State != Fail || c.want == Inconclusive && r.State == Pass {
				t.Errorf("the report is %s", r.State)
			}
		})
	}
}

func TestThisMachinesReportHasEveryCheck(t *testing.T) {
	r := Node{DataDir: keyDir(t)}.Storage(t.Context())
	if len(r.Checks) != 4 {
		t.Fatalf("%+v", r)
	}
	for _, c := range r.Checks {
		t.Logf("%s: %s: %s", c.Name, c.State, c.Detail)
		if c.State == "" || c.Detail == "" {
			t.Errorf("%+v", c)
		}
	}
}

func FuzzBlockDevices(f *testing.F) {
	f.Add([]byte(luks), "253:1")
	f.Add([]byte(`{"blockdevices":[{"name":"a","children":[{"name":"a"}]}]}`), "")
	f.Add([]byte(`[]`), "8:1")
	f.Fuzz(func(t *testing.T, text []byte, number string) {
		tree, err := parseBlockDevices(text)
		if err != nil {
			return
		}
		for _, way := range chains(tree, func(d blockDevice) bool { return d.Number == number }) {
			if way[len(way)-1].Number != number {
				t.Fatal("a way that does not end at the device")
			}
		}
	})
}

// The process that forbids dumps can neither be dumped nor start anything that
// can. It is a child, because the test itself wants to be debugged.
func TestAProcessThatForbidsDumpsMakesNone(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "KEYS_TEST_DUMPS=1")
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "0 0 pass\n" {
		t.Errorf("%q, %v", out, err)
	}
}
