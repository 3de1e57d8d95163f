package keys

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// StorageReport says whether what lies below the database protects it: the
// volume, swap, core dumps, file modes.
type StorageReport struct {
	State  string         `json:"state"` // the worst of the checks
	Checks []StorageCheck `json:"checks"`
}

// StorageCheck is one of them.
type StorageCheck struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Detail string `json:"detail"`
	Mend   string `json:"mend,omitempty"`
}

// Node is what the report reads. The zero value with DataDir reads this
// machine; tests give fixtures.
type Node struct {
	DataDir string
	Root    string // in whose proc, sys and etc is read; default /
	// Run runs a program and returns its standard output.
	Run func(ctx context.Context, name string, args ...string) ([]byte, error)
	// Device names the device that a path lies on, as major:minor.
	Device func(path string) (string, error)
	// Limits returns RLIMIT_CORE and PR_GET_DUMPABLE of this process.
	Limits func() (core uint64, dumpable int, err error)
}

func (n Node) withDefaults() Node {
	if n.Root == "" {
		n.Root = "/"
	}
	if n.Run == nil {
		n.Run = runProgram
	}
	if n.Device == nil {
		n.Device = deviceOf
	}
	if n.Limits == nil {
		n.Limits = ownLimits
	}
	return n
}

// Storage reads the report.
func (n Node) Storage(ctx context.Context) StorageReport {
	n = n.withDefaults()
	tree, treeErr := n.blockDevices(ctx)
	r := StorageReport{State: Pass, Checks: []StorageCheck{n.volume(ctx, tree, treeErr), n.swap(ctx, tree, treeErr), n.Dumps(), n.modes()}}
	for _, c := range r.Checks {
		if c.State == Fail || c.State == Inconclusive && r.State == Pass {
			r.State = c.State
		}
	}
	return r
}

// blockDevice is a device as lsblk --json shows it (util-linux).
type blockDevice struct {
	Name     string        `json:"name"`
	KName    string        `json:"kname"`
	Type     string        `json:"type"` // disk, part, crypt, lvm, raid1, …
	Number   string        `json:"maj:min"`
	FSType   string        `json:"fstype"`
	Children []blockDevice `json:"children"`
}

func (n Node) blockDevices(ctx context.Context) ([]blockDevice, error) {
	out, err := n.Run(ctx, "lsblk", "--json", "--output", "NAME,KNAME,TYPE,MAJ:MIN,FSTYPE")
	if err != nil {
		return nil, fmt.Errorf("lsblk: %w", err)
	}
	return parseBlockDevices(out)
}

func parseBlockDevices(out []byte) ([]blockDevice, error) {
	var tree struct {
		BlockDevices []blockDevice `json:"blockdevices"`
	}
	if err := json.Unmarshal(out, &tree); err != nil {
		return nil, errors.New("lsblk: its answer is no JSON of the known form")
	}
	return tree.BlockDevices, nil
}

// chains lists every way from a disk down to a device: a RAID has several, and
// each must be encrypted.
func chains(tree []blockDevice, match func(blockDevice) bool) (out [][]blockDevice) {
	var walk func(list, above []blockDevice)
	walk = func(list, above []blockDevice) {
		for _, d := range list {
			path := append(append([]blockDevice{}, above...), d)
			if match(d) {
				out = append(out, path)
			}
			walk(d.Children, path)
		}
	}
	walk(tree, nil)
	return out
}

// encryption judges the ways to a device.
func (n Node) encryption(ctx context.Context, ways [][]blockDevice) (state, detail string) {
	state = Pass
	var said []string
	for _, way := range ways {
		var crypt *blockDevice
		var names []string
		for i, d := range way {
			names = append(names, d.Name+" ("+d.Type+")")
			if d.Type == "crypt" {
				crypt = &way[i]
			}
		}
		where := strings.Join(names, " → ")
		if crypt == nil {
			return Fail, "not encrypted: " + where
		}
		cipher, ok, err := n.cipher(ctx, crypt.Name)
		switch {
		case err != nil:
			state = Inconclusive
			said = append(said, "encrypted, but the cipher could not be read ("+err.Error()+"): "+where)
		case !ok:
			return Fail, "encrypted with " + cipher + ", which is not AES-256: " + where
		default:
			said = append(said, "encrypted with "+cipher+": "+where)
		}
	}
	return state, strings.Join(said, "; ")
}

// cipher asks cryptsetup. XTS splits its key in two (IEEE 1619), so that
// AES-256 shows as 512 bits.
func (n Node) cipher(ctx context.Context, name string) (cipher string, aes256 bool, err error) {
	out, err := n.Run(ctx, "cryptsetup", "status", name)
	if err != nil {
		return "", false, fmt.Errorf("cryptsetup status: %w", err)
	}
	bits := 0
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "cipher":
			cipher = value
		case "keysize":
			bits, _ = strconv.Atoi(strings.Fields(value + " 0")[0])
		}
	}
	if cipher == "" || bits == 0 {
		return "", false, errors.New("cryptsetup status: no cipher in its answer")
	}
	need := 256
	if strings.Contains(cipher, "xts") {
		need = 512
	}
	return fmt.Sprintf("%s, %d bits", cipher, bits), strings.HasPrefix(cipher, "aes") && bits >= need, nil
}

const luksMend = "Put the data directory on a LUKS volume: cryptsetup luksFormat --cipher aes-xts-plain64 --key-size 512 DEVICE."

func (n Node) volume(ctx context.Context, tree []blockDevice, treeErr error) StorageCheck {
	c := StorageCheck{Name: "volume", Mend: luksMend}
	number, err := n.Device(n.DataDir)
	switch {
	case err != nil:
		c.State, c.Detail = Inconclusive, "the device of "+n.DataDir+" could not be read: "+reason(err)
	case treeErr != nil:
		c.State, c.Detail = Inconclusive, treeErr.Error()
	default:
		ways := chains(tree, func(d blockDevice) bool { return d.Number == number })
		if len(ways) == 0 {
			number, source := n.mountSource(n.DataDir)
			ways = chains(tree, func(d blockDevice) bool {
				return d.Number == number || source != "" && (filepath.Base(source) == d.Name || filepath.Base(source) == d.KName)
			})
		}
		if len(ways) == 0 {
			c.State, c.Detail = Inconclusive, "the device "+number+" below "+n.DataDir+" is none that lsblk shows: a container, a network or a memory file system"
			c.Mend = "Check the volume on the host."
			return c
		}
		c.State, c.Detail = n.encryption(ctx, ways)
	}
	if c.State == Pass {
		c.Mend = ""
	}
	return c
}

// mountSource finds the device of a mount that has no block device number of
// its own, such as btrfs (proc(5), mountinfo).
func (n Node) mountSource(path string) (number, source string) {
	text, err := os.ReadFile(filepath.Join(n.Root, "proc/self/mountinfo"))
	if err != nil {
		return "", ""
	}
	best := -1
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 10 {
			continue
		}
		point := f[4]
		if path != point && !strings.HasPrefix(path, strings.TrimSuffix(point, "/")+"/") || len(point) < best {
			continue
		}
		for i, word := range f {
			if word == "-" && i+2 < len(f) {
				best, number, source = len(point), f[2], f[i+2]
			}
		}
	}
	if !strings.HasPrefix(source, "/dev/") {
		source = ""
	}
	return number, source
}

func (n Node) swap(ctx context.Context, tree []blockDevice, treeErr error) StorageCheck {
	c := StorageCheck{Name: "swap", State: Pass, Mend: "Encrypt swap (crypttab(5) with a random key), use zram, or run swapoff."}
	text, err := os.ReadFile(filepath.Join(n.Root, "proc/swaps"))
	if err != nil {
		c.State, c.Detail = Inconclusive, "/proc/swaps could not be read: "+reason(err)
		return c
	}
	var said []string
	for i, line := range bytes.Split(bytes.TrimSpace(text), []byte("\n")) {
		f := strings.Fields(string(line))
		if i == 0 || len(f) < 2 {
			continue
		}
		state, detail := n.swapArea(ctx, f[0], f[1], tree, treeErr)
		if state == Fail || state == Inconclusive && c.State == Pass {
			c.State = state
		}
		said = append(said, f[0]+": "+detail)
	}
	if c.Detail = strings.Join(said, "; "); c.Detail == "" {
		c.Detail = "there is none"
	}
	if c.State == Pass {
		c.Mend = ""
	}
	return c
}

func (n Node) swapArea(ctx context.Context, path, kind string, tree []blockDevice, treeErr error) (state, detail string) {
	name := filepath.Base(path)
	if strings.HasPrefix(name, "zram") {
		back, err := os.ReadFile(filepath.Join(n.Root, "sys/block", name, "backing_dev"))
		if err == nil && strings.TrimSpace(string(back)) != "none" {
			return Inconclusive, "compressed in memory, but written back to " + strings.TrimSpace(string(back))
		}
		return Pass, "compressed in memory"
	}
	if treeErr != nil {
		return Inconclusive, treeErr.Error()
	}
	match := func(d blockDevice) bool { return d.Name == name || d.KName == name }
	if kind == "file" {
		number, err := n.Device(path)
		if err != nil {
			return Inconclusive, "its device could not be read: " + reason(err)
		}
		match = func(d blockDevice) bool { return d.Number == number }
	}
	ways := chains(tree, match)
	if len(ways) == 0 {
		return Inconclusive, "its device is none that lsblk shows"
	}
	return n.encryption(ctx, ways)
}

// Dumps says whether a crash could write this process's memory to a disk
// (core(5), prctl(2)). A pattern that begins with | ignores RLIMIT_CORE.
func (n Node) Dumps() StorageCheck {
	n = n.withDefaults()
	c := StorageCheck{Name: "core dumps", Mend: "Run in production, where the node forbids them for itself; or set kernel.core_pattern to empty and LimitCORE=0."}
	core, dumpable, err := n.Limits()
	pattern, perr := os.ReadFile(filepath.Join(n.Root, "proc/sys/kernel/core_pattern"))
	if err != nil {
		c.State, c.Detail = Inconclusive, "the limits of this process could not be read: "+err.Error()
		return c
	}
	p := strings.TrimSpace(string(pattern))
	handler := ""
	if strings.Contains(p, "systemd-coredump") {
		handler = ", and systemd-coredump keeps them" + n.coredumpStorage()
	}
	state := fmt.Sprintf("core_pattern %q%s, RLIMIT_CORE %s, dumpable %d", p, handler, limitText(core), dumpable)
	switch {
	case dumpable == 0:
		c.State, c.Detail, c.Mend = Pass, "this process makes none: "+state+"; PostgreSQL's own processes follow RLIMIT_CORE", ""
	case perr != nil:
		c.State, c.Detail = Inconclusive, "core_pattern could not be read: "+reason(perr)
	case core == 0 && !strings.HasPrefix(p, "|"):
		c.State, c.Detail, c.Mend = Pass, "this process makes none: "+state, ""
	default:
		c.State, c.Detail = Fail, "a crash writes the memory of this process to a disk: "+state
	}
	return c
}

func (n Node) coredumpStorage() string {
	text, err := os.ReadFile(filepath.Join(n.Root, "etc/systemd/coredump.conf"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "Storage="); ok {
			return " (Storage=" + value + ")"
		}
	}
	return ""
}

func limitText(v uint64) string {
	if v == unix.RLIM_INFINITY {
		return "unlimited"
	}
	return strconv.FormatUint(v, 10)
}

// modes looks for files of the data directory that other users may read.
// PostgreSQL's folder is its own, with mode 0700.
func (n Node) modes() StorageCheck {
	c := StorageCheck{Name: "file modes", State: Pass, Detail: "only the owner can read the data directory"}
	var open []string
	var unread error
	err := filepath.WalkDir(n.DataDir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			unread = err
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil || d.Type()&(fs.ModeSymlink|fs.ModeSocket) != 0 {
			return nil
		}
		rel, _ := filepath.Rel(n.DataDir, path)
		perm, allowed := info.Mode().Perm(), fs.FileMode(0o700)
		switch {
		case rel == "." || rel == "postgres":
			allowed = 0o711 // passed through by the database's user, not read
		case strings.HasPrefix(rel, filepath.Join("postgres", "etc")):
			allowed = 0o750 // the server's settings, for the group of the database's user
		case rel == filepath.Join("ca", "ca.pem"):
			return nil // a certificate is public
		}
		if perm&^allowed != 0 {
			open = append(open, fmt.Sprintf("%s (%04o)", rel, perm))
		}
		if d.IsDir() && rel != "." && perm&0o077 == 0 && rel != "keys" {
			return fs.SkipDir // nobody else gets in
		}
		return nil
	})
	switch {
	case len(open) > 0:
		c.State, c.Detail, c.Mend = Fail, "others may use: "+strings.Join(open, ", "), "Run: chmod -R go= on them."
	case err != nil || unread != nil:
		c.State, c.Detail = Inconclusive, "not everything could be looked at: "+reason(errors.Join(err, unread))
	}
	return c
}

func deviceOf(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", errors.New("no device number")
	}
	return fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)), nil
}

func ownLimits() (uint64, int, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &l); err != nil {
		return 0, 0, err
	}
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	return l.Cur, dumpable, err
}

// ForbidDumps keeps this process's memory out of core dumps and from debuggers
// (PR_SET_DUMPABLE), and the dumps of the processes it starts too (RLIMIT_CORE).
func ForbidDumps() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("setting RLIMIT_CORE to 0: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("setting PR_SET_DUMPABLE to 0: %w", err)
	}
	return nil
}
