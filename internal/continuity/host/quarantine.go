package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/missionopsai/foundry/internal/durable"
	"github.com/missionopsai/foundry/internal/problem"
)

// Door is an address of a node of the fleet with the ports on which the fleet's
// members reach it.
type Door struct {
	Node  string
	Addr  netip.Addr // of another node; not valid: these are this node's own ports
	Ports []int
}

// Cut is how this machine is cut off.
type Cut struct {
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`           // then somebody looks at it again
	Run   string    `json:"run"`             // what asked for it
	Lifts bool      `json:"lifts,omitempty"` // it ends by itself at Until: of an exercise
	Open  []string  `json:"open"`            // what stays open, in words
}

// Facts is the cut as a step of a recovery keeps it.
func (c Cut) Facts() map[string]string {
	return map[string]string{"quarantined": "yes", "since": c.Since.UTC().Format(time.RFC3339), "until": c.Until.UTC().Format(time.RFC3339),
		"rules": "nft table inet " + table, "open": strings.Join(c.Open, "; ")}
}

const (
	table    = "foundry_quarantine"
	nftLimit = 10 * time.Second
)

func (h *Host) nft() string {
	if p := h.o.Config.Programs.Nft; p != "" {
		return p
	}
	return "/usr/sbin/nft"
}

func (h *Host) cutFile() string { return filepath.Join(h.o.Dir, "quarantine.json") }

// Isolate cuts this machine off: what comes in and what goes out is dropped, but
// for the doors of the fleet and the administrators' addresses. Connections that
// are open are cut too, because the rules look at packets and not at
// connections. Doing it again is doing it once. A machine that restarts is cut
// off again by Tend.
func (h *Host) Isolate(ctx context.Context, run string, lifts bool, period time.Duration) (Cut, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	q := h.o.Config.Quarantine
	if q == nil {
		return Cut{}, problem.New(problem.Denied, "host-quarantine-not-allowed", "This machine's configuration does not allow it to be cut off.").WithMend("Write continuity.allow.quarantine on this node, or cut it off at its supplier.").Wrap(ErrNotAllowed)
	}
	c, found, err := h.cut()
	if err != nil {
		return c, err
	}
	if !found || c.Run != run {
		if period <= 0 {
			period = q.For.Or(24 * time.Hour)
		}
		now := h.o.Clock()
		c = Cut{Since: now, Until: now.Add(period), Run: run, Lifts: lifts && !found} // what a real incident has cut off does not end with an exercise
	}
	rules, open, err := h.rules(ctx)
	if err != nil {
		return c, err
	}
	c.Open = open
	text, err := json.Marshal(c)
	if err != nil {
		return c, err
	}
	// What is written first is done again after a restart; the other way round a
	// restart would open what was closed.
	if err := os.MkdirAll(h.o.Dir, 0o700); err != nil {
		return c, err
	}
	if err := durable.Replace(h.cutFile(), text, 0o600); err != nil {
		return c, err
	}
	return c, h.apply(ctx, rules)
}

// apply loads rules in one act and looks whether they are there.
func (h *Host) apply(ctx context.Context, rules string) error {
	var out output
	if err := h.run(ctx, nftLimit, &out, rules, h.nft(), "-f", "-"); err != nil {
		if errors.Is(err, ErrAbsent) || errors.Is(err, ErrNotAllowed) || errors.Is(err, ErrUnknown) {
			return err
		}
		return failed("host-quarantine-failed", "The rules that cut this machine off were not taken: "+out.last())
	}
	held, err := h.held(ctx)
	if err != nil {
		return err
	}
	if !held {
		return failed("host-quarantine-failed", "The rules that cut this machine off were taken and are not there.")
	}
	return nil
}

// held says whether the rules are there: all three ways closed.
func (h *Host) held(ctx context.Context) (bool, error) {
	var out output
	if err := h.run(ctx, nftLimit, &out, "", h.nft(), "-j", "list", "chains"); err != nil {
		if errors.Is(err, ErrAbsent) || errors.Is(err, ErrNotAllowed) || errors.Is(err, ErrUnknown) {
			return false, err
		}
		return false, problem.New(problem.Unavailable, "host-quarantine-unseen", "Whether this machine is cut off cannot be seen: "+out.last()).Wrap(errors.Join(ErrUnknown, err))
	}
	return readHeld([]byte(out.String()))
}

// readHeld reads `nft -j list chains`.
func readHeld(text []byte) (bool, error) {
	var all struct {
		List []struct {
			Chain *struct {
				Family, Table, Hook, Policy string
			} `json:"chain"`
		} `json:"nftables"`
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return false, problem.New(problem.Unavailable, "host-quarantine-unseen", "Whether this machine is cut off cannot be seen.").Wrap(errors.Join(ErrUnknown, err))
	}
	closed := map[string]bool{}
	for _, o := range all.List {
		if c := o.Chain; c != nil && c.Family == "inet" && c.Table == table && c.Policy == "drop" {
			closed[c.Hook] = true
		}
	}
	return closed["input"] && closed["output"] && closed["forward"], nil
}

// rules writes the rules, and says in words what stays open.
func (h *Host) rules(ctx context.Context) (text string, open []string, err error) {
	q := h.o.Config.Quarantine
	doors, err := h.o.Doors(ctx)
	if err != nil {
		return "", nil, problem.New(problem.Unavailable, "host-quarantine-doors", "Where the fleet's nodes are is not known: cutting this machine off would leave nobody who could open it again.").Wrap(err)
	}
	var in, out []string
	var own []int
	for _, d := range doors {
		if !d.Addr.IsValid() {
			own = append(own, d.Ports...)
		}
	}
	family := func(a netip.Addr) string {
		if a.Is4() {
			return "ip"
		}
		return "ip6"
	}
	const answers = "tcp flags & (syn | ack) != syn"
	for _, d := range doors {
		if !d.Addr.IsValid() || d.Addr.IsLoopback() {
			continue
		}
		a := d.Addr.Unmap()
		if len(own) > 0 {
			in = append(in, fmt.Sprintf("%s saddr %s tcp dport %s accept", family(a), a, ports(own)))
			out = append(out, fmt.Sprintf("%s daddr %s tcp sport %s %s accept", family(a), a, ports(own), answers))
		}
		if len(d.Ports) > 0 {
			out = append(out, fmt.Sprintf("%s daddr %s tcp dport %s accept", family(a), a, ports(d.Ports)))
			in = append(in, fmt.Sprintf("%s saddr %s tcp sport %s %s accept", family(a), a, ports(d.Ports), answers))
		}
		open = append(open, "the fleet's doors with "+d.Node)
	}
	admin := q.Ports
	if len(admin) == 0 {
		admin = []int{22}
	}
	for _, text := range q.Admin {
		p, err := prefix(text)
		if err != nil {
			return "", nil, err
		}
		in = append(in, fmt.Sprintf("%s saddr %s tcp dport %s accept", family(p.Addr()), p, ports(admin)))
		out = append(out, fmt.Sprintf("%s daddr %s tcp sport %s %s accept", family(p.Addr()), p, ports(admin), answers))
		open = append(open, "ports "+ports(admin)+" for "+p.String())
	}
	if len(in) == 0 {
		return "", nil, problem.New(problem.Denied, "host-quarantine-alone", "There is no other node and no address of an administrator: nobody could open this machine again.").WithField("continuity.allow.quarantine.admin").WithMend("Name an address from which an administrator comes.").Wrap(ErrNotAllowed)
	}
	// Without neighbour discovery no IPv6 address is found at all (RFC 4861).
	const neighbours = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert, nd-router-solicit } accept"
	var b strings.Builder
	fmt.Fprintf(&b, "add table inet %[1]s\ndelete table inet %[1]s\ntable inet %[1]s {\n", table)
	chain := func(hook, lo string, rules []string) {
		fmt.Fprintf(&b, "  chain %[1]s {\n    type filter hook %[1]s priority -310; policy drop;\n", hook)
		if lo != "" {
			fmt.Fprintf(&b, "    %s \"lo\" accept\n    %s\n", lo, neighbours)
		}
		for _, r := range rules {
			fmt.Fprintf(&b, "    %s\n", r)
		}
		b.WriteString("  }\n")
	}
	chain("input", "iifname", in)
	chain("output", "oifname", out)
	chain("forward", "", nil)
	b.WriteString("}\n")
	return b.String(), open, nil
}

func ports(list []int) string {
	list = slices.Clone(list)
	slices.Sort(list)
	var words []string
	for _, p := range slices.Compact(list) {
		words = append(words, strconv.Itoa(p))
	}
	return "{ " + strings.Join(words, ", ") + " }"
}

// cut reads how this machine is cut off, as it was written down.
func (h *Host) cut() (c Cut, found bool, err error) {
	text, err := os.ReadFile(h.cutFile())
	if errors.Is(err, fs.ErrNotExist) {
		return c, false, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	return c, err == nil, err
}

// Quarantined says how this machine is cut off; false: it is not.
func (h *Host) Quarantined() (Cut, bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cut()
}

// Lift opens this machine again.
func (h *Host) Lift(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lift(ctx)
}

func (h *Host) lift(ctx context.Context) error {
	var out output
	err := h.run(ctx, nftLimit, &out, "add table inet "+table+"\ndelete table inet "+table+"\n", h.nft(), "-f", "-")
	if err != nil {
		return failed("host-quarantine-lift", "This machine was not opened again: "+out.last())
	}
	if held, err := h.held(ctx); err != nil || held {
		return errors.Join(err, failed("host-quarantine-lift", "The rules that cut this machine off are still there."))
	}
	if err := os.Remove(h.cutFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.SyncDir(h.o.Dir)
}

// Tend sees to it that a machine that is cut off stays so, over restarts and over
// whoever takes the rules away, until it is opened, or the time of an exercise
// is over. It returns when ctx ends.
func (h *Host) Tend(ctx context.Context, every time.Duration) {
	for {
		if err := h.tend(ctx); err != nil && ctx.Err() == nil {
			h.o.Log.Error("this machine is to be cut off from its network, and may not be", "error", err)
		}
		if h.o.Wait(ctx, every) != nil {
			return
		}
	}
}

func (h *Host) tend(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, found, err := h.cut()
	if err != nil || !found {
		return err
	}
	if c.Lifts && !h.o.Clock().Before(c.Until) {
		return h.lift(ctx)
	}
	if held, err := h.held(ctx); err != nil || held {
		return err
	}
	rules, _, err := h.rules(ctx)
	if err != nil {
		return err
	}
	h.o.Log.Warn("the rules that cut this machine off were gone: they are set again", "run", c.Run)
	return h.apply(ctx, rules)
}

// Seen is what a probe from here saw of a door.
type Seen struct {
	Address string `json:"address"`
	Open    bool   `json:"open"`
	How     string `json:"how"` // open, refused, silent
}

// Look knocks at doors of another machine, to prove a quarantine from outside.
func Look(ctx context.Context, addresses []string, limit time.Duration) []Seen {
	out := make([]Seen, len(addresses))
	var all sync.WaitGroup
	for i, a := range addresses {
		all.Go(func() {
			one, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			out[i] = Seen{Address: a, How: "silent"}
			c, err := new(net.Dialer).DialContext(one, "tcp", a)
			switch {
			case err == nil:
				_ = c.Close()
				out[i].Open, out[i].How = true, "open"
			case errors.Is(err, syscall.ECONNREFUSED):
				out[i].How = "refused" // the machine itself has answered: nothing keeps packets from it
			}
		})
	}
	all.Wait()
	return out
}
