package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/backup/kit"
	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/survivor"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// TakeOverOptions say which lost node is taken over, and onto what. What is
// recovered stays fenced until [backup.Activate].
type TakeOverOptions struct {
	From    string // the lost node, as the fleet knows it
	Reason  string // why, in a sentence: it goes into the audit log
	DataDir string // for what is recovered: empty, absent, or left by an interrupted take-over of the same
	KEK     string // file for the key-encryption key; in production on another volume than DataDir
	At      time.Time
	Target  string
	Paths   map[string]string // where directories of targets are on this machine, by the target's name
	DryRun  bool              // looks and says, changes nothing
	// Stale takes over though the lost node had changed keys or settings since
	// it left the bundle.
	Stale    bool
	Progress func(step string, done, total int64, what string) // may be nil
}

// TakeOver recovers, on this node, what a lost one left for it, from its
// backups: no kit and no shares are asked for. It is the restore of a recovery
// that runs in this process; [TakeOver] does it beside one.
func (d *Daemon) TakeOver(ctx context.Context, p principal.Principal, o TakeOverOptions) (*backup.Recovery, error) {
	if d.custody == nil {
		return nil, problem.New(problem.Unsupported, "fleet-off", "This node is in no fleet: nobody left anything for it.").WithMend("Recover from the emergency kit.")
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	if err := d.desk.TakeOver(ctx, p, o.From, o.Reason); err != nil {
		return nil, err
	}
	held, err := d.custody.Take(ctx, o.From)
	if err != nil {
		return nil, err
	}
	s := d.Member().Status(ctx)
	return takeOver(ctx, held, &s, taking{by: p.String(), version: d.version, host: hostHere(d.config), log: d.log}, o)
}

// TakeOver does the same with what the node of holder keeps beside its store.
// That node may run, without a majority too, or be stopped: whoever may read
// its keys may do it.
func TakeOver(ctx context.Context, holder Config, version string, passphrase func(context.Context) ([]byte, error), o TakeOverOptions) (*backup.Recovery, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	holder = holder.withDefaults()
	dir, err := filepath.Abs(holder.DataDir)
	if err != nil {
		return nil, err
	}
	holder.DataDir = dir
	if err := ownsNode(dir); err != nil {
		return nil, err
	}
	ring, err := OpenKeyring(holder, passphrase)
	if err != nil {
		return nil, err
	}
	own, err := member.ReadOwn(FleetDir(dir), ring)
	if err != nil {
		return nil, err
	}
	held, err := survivor.OpenKept(own, filepath.Join(FleetDir(dir), "survivors"), o.From, time.Now())
	if err != nil {
		return nil, err
	}
	status, err := askNode(ctx, dir)
	if err != nil {
		held.Doubts = append(held.Doubts, fmt.Sprintf("Whether %s still runs could not be asked: the node on %s does not answer.", o.From, dir))
	}
	by := principal.Principal{Kind: principal.Local, ID: fmt.Sprintf("uid=%d", os.Geteuid()), UID: os.Geteuid()}
	return takeOver(ctx, held, status, taking{by: by.String(), version: version, host: hostHere(holder)}, o)
}

func (o TakeOverOptions) check() error {
	if err := member.CheckName(o.From); err != nil {
		return problem.From(err).WithField("take-over")
	}
	if !o.DryRun && len(strings.TrimSpace(o.Reason)) < 10 {
		return problem.New(problem.Invalid, "recovery-reason", "Taking over from a node needs a reason.").WithField("reason").WithMend("Say in a sentence why; it goes into the audit log.")
	}
	return nil
}

// ownsNode refuses who neither runs the node nor is root.
func ownsNode(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return unusable(dir, err)
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() != 0 && int(s.Uid) != os.Geteuid() {
		return problem.New(problem.Denied, "local-user", "Only the user who runs this node, and root, may take over with what it holds.").WithMend("Run the command as that user.")
	}
	return nil
}

// askNode asks the node that runs on a data directory how its fleet is; nil:
// none answers.
func askNode(ctx context.Context, dir string) (*member.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", SocketPath(dir))
	}}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://foundry/api/v1/fleet", nil)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	var s member.Status
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the node answered %s", answer.Status)
	}
	return &s, json.NewDecoder(answer.Body).Decode(&s)
}

// hostHere is where the other nodes reach this one; empty: nowhere.
func hostHere(c Config) string { return hostOf(member.Node{Addresses: c.Fleet.Listen.addresses()}) }

// taking is who takes over, and where.
type taking struct {
	by, version, host string
	log               *slog.Logger
}

// takeOver recovers from what is held. status is the fleet as this node sees
// it; nil: it is not known.
func takeOver(ctx context.Context, held survivor.Held, status *member.Status, who taking, o TakeOverOptions) (*backup.Recovery, error) {
	defer held.Wipe()
	if err := refuseAlive(status, &held, o); err != nil {
		return nil, err
	}
	if held.Stale && !o.Stale && !o.DryRun {
		return nil, problem.New(problem.Denied, "survivor-stale", held.Doubts[0]).WithField("stale").
			WithMend("Look with --dry-run, and add --stale if it has to do; or recover from the emergency kit.")
	}
	c, err := joinKit(held.Parts)
	if err != nil {
		return nil, problem.New(problem.Unsupported, "survivor-version", "What "+held.From+" left cannot be read by this version.").WithMend("Use the version that it ran, or recover from the emergency kit.").Wrap(err)
	}
	c.Made = held.Made
	notes, err := completeKit(&c, held)
	if err != nil {
		return nil, err
	}
	moved, err := settle(&c, held.From, who.host)
	if err != nil {
		return nil, err
	}
	return backup.Recover(ctx, backup.RecoverOptions{
		Bundle: &backup.Bundle{Content: c, Digest: held.Digest, Notes: append(append(held.Doubts, notes...), moved...),
			Taken: backup.TakenOver{From: held.From, To: held.To, Fleet: held.Fleet, Made: held.Made, By: who.by, Reason: strings.TrimSpace(o.Reason)}},
		DataDir: o.DataDir, At: o.At, Target: o.Target, Paths: o.Paths, DryRun: o.DryRun, KEK: o.KEK, Version: who.version, Progress: o.Progress, Log: who.log,
		Configure: func(c kit.Content, dataDir, kek string) (string, error) {
			return AdaptSettings(c, dataDir, kek, o.Paths)
		},
	})
}

// refuseAlive refuses to take over from a node that answers: two that both
// think they are the one destroy what is recovered.
func refuseAlive(status *member.Status, held *survivor.Held, o TakeOverOptions) error {
	if status == nil || o.DryRun {
		return nil
	}
	for _, n := range status.Nodes {
		if n.Name == held.From && n.Answers {
			return problem.New(problem.Conflict, "survivor-alive", held.From+" answers: it is not lost.").WithField("take-over").
				WithMend("Stop it for good first. `foundry node status` says who answers; --dry-run looks without changing anything.")
		}
	}
	if !status.Majority {
		held.Doubts = append(held.Doubts, fmt.Sprintf("No majority of the fleet answers %s: whether %s runs where this node does not reach it is not known.", held.To, held.From))
	}
	return nil
}

// completeKit adds what changes by itself, and says what is not known of it.
func completeKit(c *kit.Content, held survivor.Held) (notes []string, err error) {
	if held.Latest != nil {
		var of kit.Content
		if err := json.Unmarshal(held.Latest, &of); err != nil || of.Version != kit.ContentVersion {
			return nil, problem.New(problem.Unsupported, "survivor-version", "The newest note of "+held.From+" cannot be read by this version.").WithMend("Use the version that it ran.").Wrap(err)
		}
		c.Files = append(c.Files, of.Files...)
		c.Expected, c.Audit = of.Expected, of.Audit
	}
	if _, there := c.File("node.json"); !there {
		// A number of a start must never be used twice. No node starts once a
		// minute for years.
		body, err := json.Marshal(node{Number: c.Node.Number, Boot: uint32(time.Since(bootsCounted) / time.Minute)}) //nolint:gosec // until the year 10186
		if err != nil {
			return nil, err
		}
		c.Files = append(c.Files, kit.File{Path: "node.json", Mode: 0o600, Body: body})
		notes = append(notes, "How often "+held.From+" was started is not known: its count goes on far above.")
	}
	return notes, nil
}

var bootsCounted = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// settle adapts the settings of a lost node to the machine of its survivor: it
// keeps its names, and does not listen where only its own machine does.
func settle(c *kit.Content, from, host string) (notes []string, err error) {
	var s Config
	if err := config.Parse("the settings", []byte(c.Settings), &s); err != nil {
		return nil, problem.New(problem.Invalid, "kit-settings", "The settings that "+from+" left cannot be read by this version.").WithMend("Use the version that it ran.").Wrap(err)
	}
	s.Node.Name = cmp.Or(s.Node.Name, c.Node.Name)
	s.Fleet = FleetConfig{Name: from, SnapshotEvery: s.Fleet.SnapshotEvery, SnapshotKeep: s.Fleet.SnapshotKeep}
	for _, at := range []*string{&s.Listen.HTTPS, &s.Listen.HTTP} {
		old, port, err := net.SplitHostPort(*at)
		if err != nil || here(old) {
			continue
		}
		*at = net.JoinHostPort(host, port)
		notes = append(notes, fmt.Sprintf("%s listened at %s, which is not here: it will listen at %s.", from, net.JoinHostPort(old, port), *at))
	}
	text, err := yaml.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("writing the settings: %w", err)
	}
	c.Settings = string(text)
	return notes, nil
}

// here says whether this machine may listen at a host: an address that it has,
// or anything that is no address.
func here(host string) bool {
	ip := net.ParseIP(host)
	if ip == nil || ip.IsLoopback() || ip.IsUnspecified() {
		return true
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip) {
			return true
		}
	}
	return false
}
