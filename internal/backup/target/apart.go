package target

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// Place is where the data stands: this node.
type Place struct {
	Paths    []string // directories that hold the data; a target on the volume of one of them is not apart
	Host     string   // what the node is called; the names and addresses of its machine are known by themselves
	Account  string
	Supplier string
	Country  string
	Allowed  []string // countries, or groups such as EEA, that may hold backups; empty: the EEA and the node's own
}

// Finding is one reason why a target is not apart from the data, or not known to be.
type Finding struct {
	Rule   string `json:"rule"`  // stable kebab-case: see Apart
	Field  string `json:"field"` // the setting, below the target's, for example "path"
	Detail string `json:"detail"`
	Mend   string `json:"mend"`
	Fatal  bool   `json:"fatal"` // production refuses the target
}

// Away reports whether a finding only says that a directory cannot be looked at.
func (f Finding) Away() bool { return f.Rule == "volume-gone" || f.Rule == "volume-away" }

func awayRule(code string) string {
	if code == "target-away" {
		return "volume-away"
	}
	return "volume-gone"
}

// Apart lists what makes the target share a fate with the data. An empty list
// is the only good answer. In production a Fatal finding refuses the target; in
// development the shared fates are only named, and what nobody recorded is not.
//
//	same-volume       the directory is on the volume of the data, or around or inside it
//	volume-gone       the directory is not there, so nobody can tell (not Fatal: a
//	                  mount that is away must not keep a node from starting)
//	volume-away       the directory is there, and is not what was accepted before:
//	                  it is not mounted, so nobody can tell (not Fatal)
//	same-host         the data's own machine holds it, or answers for it
//	host-claimed      a disk of this machine, said to be another's (not Fatal)
//	same-account, same-supplier
//	account-unknown, supplier-unknown, country-unknown
//	country-outside   not in a country that may hold backups
//	supplier-outside  a public cloud under the law of the United States
func (t Target) Apart(node Place, production bool) []Finding {
	var found []Finding
	add := func(fatal bool, rule, field, detail, mend string) {
		if production || !strings.HasSuffix(rule, "-unknown") {
			found = append(found, Finding{rule, field, detail, mend, fatal})
		}
	}
	if t.Kind == Directory {
		t.volume(node, add)
	} else {
		t.machine(node, add)
	}
	t.owner(node, add)
	t.country(node, add)
	return found
}

type addFinding = func(fatal bool, rule, field, detail, mend string)

// volume compares the volume of a directory with those of the data.
func (t Target) volume(node Place, add addFinding) {
	if err := t.There(); err != nil {
		p := problem.From(err)
		add(false, awayRule(p.Code), "path", p.Detail, p.Mend)
		return
	}
	at, err := resolve(t.Path)
	if err != nil {
		add(false, "volume-gone", "path", fmt.Sprintf("The directory of the target %s is not there: %s.", t.Name, t.Path), "Mount it, or correct the path.")
		return
	}
	device, network, err := volumeOf(at)
	for _, path := range node.Paths {
		data, derr := nearest(path)
		if err != nil || derr != nil {
			continue
		}
		if other, _, oerr := volumeOf(data); oerr == nil && other == device || within(at, data) || within(data, at) {
			add(true, "same-volume", "path", fmt.Sprintf("The target %s is on the volume of the data in %s: one broken disk takes both.", t.Name, path),
				"Mount another machine's storage, or use a bucket or an SFTP server.")
			return
		}
	}
	switch {
	case network && t.Host != "" && !isThisMachine(node, t.Host, nil):
	case !network && t.Host != "" && !isThisMachine(node, t.Host, nil):
		add(false, "host-claimed", "host", fmt.Sprintf("The target %s is a disk of this machine; that %s holds it cannot be checked from here.", t.Name, t.Host),
			"Keep evidence that the volume is another machine's, or use a network file system.")
	case network && t.Host == "":
		add(true, "host-unknown", "host", fmt.Sprintf("The target %s is a network file system, and its host is not recorded.", t.Name), "Name its host.")
	default:
		add(true, "same-host", "path", fmt.Sprintf("The target %s is a disk of this machine: what takes the machine takes both.", t.Name),
			"Use storage of another machine: a network file system with its host named, a bucket, or an SFTP server.")
	}
}

// machine compares the machine of a server with this one.
func (t Target) machine(node Place, add addFinding) {
	field, host := "s3.endpoint", ""
	if t.S3 != nil {
		host = t.S3.Endpoint
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
	}
	if t.SFTP != nil {
		field, host = "sftp.host", t.SFTP.Host
	}
	if isThisMachine(node, host, t.addresses) || t.Host != "" && isThisMachine(node, t.Host, nil) {
		add(true, "same-host", field, fmt.Sprintf("The target %s is on this machine: what takes the machine takes both.", t.Name), "Use another machine's.")
	}
	for _, suffix := range unitedStates {
		if name := strings.ToLower(strings.TrimSuffix(host, ".")); name == suffix || strings.HasSuffix(name, "."+suffix) {
			add(true, "supplier-outside", field, fmt.Sprintf("The target %s is a public cloud under the law of the United States (%s).", t.Name, suffix), "Use a supplier in the European Economic Area.")
		}
	}
}

// unitedStates are domains of storage sold by companies under the law of the
// United States, wherever the servers stand (CLOUD Act, 18 U.S.C. 2713). As of
// November 2026, from the suppliers' documentation of their endpoints.
var unitedStates = []string{"amazonaws.com", "aws.dev", "googleapis.com", "core.windows.net", "backblazeb2.com", "wasabisys.com",
	"cloudflarestorage.com", "digitaloceanspaces.com", "linodeobjects.com", "vultrobjects.com", "oraclecloud.com", "cloud-object-storage.appdomain.cloud"}

// owner compares who runs the target with who runs the node.
func (t Target) owner(node Place, add addFinding) {
	switch {
	case t.Supplier == "" || node.Supplier == "":
		field, where := "supplier", "the target "+t.Name
		if t.Supplier != "" {
			where = "this node (node.supplier)"
		}
		add(true, "supplier-unknown", field, "Who runs "+where+" is not recorded.", "Name the supplier of both, so that they can be compared.")
	case strings.EqualFold(strings.TrimSpace(t.Supplier), strings.TrimSpace(node.Supplier)):
		add(true, "same-supplier", "supplier", fmt.Sprintf("The target %s and this node are both run by %s: one failure, dispute or mistake there takes both.", t.Name, t.Supplier), "Use another supplier.")
	}
	switch {
	case t.Account == "" || node.Account == "":
		where := "the target " + t.Name
		if t.Account != "" {
			where = "this node (node.account)"
		}
		add(true, "account-unknown", "account", "The account of "+where+" is not recorded.", "Name the account of both, so that they can be compared.")
	case strings.EqualFold(strings.TrimSpace(t.Account), strings.TrimSpace(node.Account)):
		add(true, "same-account", "account", fmt.Sprintf("The target %s and this node belong to the same account: whoever takes it over deletes both.", t.Name), "Use an account of its own for the backups.")
	}
}

func (t Target) country(node Place, add addFinding) {
	if t.Country == "" {
		add(true, "country-unknown", "country", fmt.Sprintf("The country of the target %s is not recorded.", t.Name), "Name the country it stands in.")
		return
	}
	allowed := sovereignty.EEA()
	if len(node.Allowed) > 0 {
		set, err := sovereignty.ParseSet(node.Allowed...)
		if err != nil {
			set = sovereignty.SetOf()
		}
		allowed = set
	} else if j, err := sovereignty.ParseJurisdiction(node.Country); err == nil {
		allowed = allowed.With(j)
	}
	if j, err := sovereignty.ParseJurisdiction(t.Country); err != nil || !allowed.Has(j) {
		add(true, "country-outside", "country", fmt.Sprintf("The target %s stands in %s, which may not hold backups.", t.Name, t.Country), "Use one in "+allowed.String()+".")
	}
}

// isThisMachine reports whether a host is the node's own machine, by name or address.
func isThisMachine(node Place, host string, resolved []netip.Addr) bool {
	host = strings.ToLower(strings.Trim(strings.TrimSuffix(host, "."), "[]"))
	own, _ := os.Hostname() // without one the node's configured name is left
	for _, name := range []string{"localhost", node.Host, own} {
		name = strings.ToLower(name)
		if short, _, _ := strings.Cut(name, "."); name != "" && (host == name || host == short && name != short) {
			return true
		}
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		resolved = append(slices.Clone(resolved), ip)
	}
	return slices.ContainsFunc(resolved, isOwnAddress)
}

func isOwnAddress(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	if ip.IsLoopback() || ip.IsUnspecified() {
		return true
	}
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(interfaces, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr().Unmap().WithZone("") == ip
	})
}

// lookup finds a server's addresses once, when the target is opened, so that a
// second name of this machine is recognised. None are found without a resolver.
func (t *Target) lookup() {
	host := ""
	if t.S3 != nil {
		if host = t.S3.Endpoint; strings.Contains(host, ":") {
			if h, _, err := net.SplitHostPort(host); err == nil {
				host = h
			}
		}
	} else if t.SFTP != nil {
		host = t.SFTP.Host
	}
	if host == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	t.addresses, _ = net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

func resolve(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	if info, err := os.Stat(real); err != nil || !info.IsDir() {
		return "", errors.Join(err, fs.ErrNotExist)
	}
	return real, nil
}

// nearest is a path, or the closest of its parents that exists.
func nearest(path string) (string, error) {
	for path = filepath.Clean(path); ; path = filepath.Dir(path) {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			return real, nil
		} else if path == filepath.Dir(path) {
			return "", err
		}
	}
}

func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// volumeOf is the number of the volume that a path is on, and whether another
// machine holds it.
func volumeOf(path string) (device uint64, network bool, err error) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return 0, false, err
	}
	network, err = networkFileSystem(path)
	return uint64(st.Dev), network, err //nolint:unconvert // the type differs between systems
}
