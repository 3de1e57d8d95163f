package sandbox

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"

	"github.com/missionopsai/foundry/internal/problem"
)

// network is the machines of a sandbox. With root each is a network namespace
// of its own on one router, and cables between them can be cut, both ways or
// one way: a packet that is cut is dropped in silence, as a broken switch does.
// Otherwise all of them are addresses of this machine's loopback, and nothing
// can be cut.
type network struct {
	id     string
	prefix string // of all addresses: "10.213.7."
	size   int
	spaces bool
	why    string // there are no spaces

	mu  sync.Mutex
	cut map[[2]int]bool // from, to
}

// newNetwork makes machines 1 to size. Machine 0 is this one.
func newNetwork(size int) (*network, error) {
	n := &network{id: fmt.Sprintf("fdy%d", rand.N(100000)), size: size, cut: map[[2]int]bool{}}
	switch {
	case os.Geteuid() != 0:
		return n.onLoopback("this is not root"), nil
	case !installed("ip"):
		return nil, problem.New(problem.Unavailable, "sandbox-network", "The program ip is missing, which makes the network of a sandbox.").WithMend("Install iproute2.")
	}
	n.spaces, n.prefix = true, fmt.Sprintf("10.%d.%d.", 200+rand.N(50), rand.N(250))
	if err := n.build(); err != nil { // root of a container often may not
		n.close()
		return n.onLoopback(err.Error()), nil
	}
	return n, nil
}

func installed(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// onLoopback makes all machines addresses of this one.
func (n *network) onLoopback(why string) *network {
	n.spaces, n.why, n.prefix = false, why, fmt.Sprintf("127.%d.%d.", 100+rand.N(100), rand.N(250))
	return n
}

func (n *network) build() error {
	if err := n.ip("netns", "add", n.hub()); err != nil {
		return err
	}
	for i := 0; i <= n.size; i++ {
		port := fmt.Sprint("m", i)
		at, gate := n.address(i)+"/30", n.gate(i)
		var steps [][]string
		if i == 0 {
			steps = [][]string{
				{"-n", n.hub(), "link", "add", port, "type", "veth", "peer", "name", n.id, "netns", "1"},
				{"addr", "add", at, "dev", n.id}, {"link", "set", n.id, "up"},
				{"route", "add", n.prefix + "0/24", "via", gate},
			}
		} else {
			space := n.space(i)
			steps = [][]string{
				{"netns", "add", space},
				{"-n", n.hub(), "link", "add", port, "type", "veth", "peer", "name", "cable", "netns", space},
				{"-n", space, "addr", "add", at, "dev", "cable"}, {"-n", space, "link", "set", "cable", "up"}, {"-n", space, "link", "set", "lo", "up"},
				{"-n", space, "route", "add", "default", "via", gate},
			}
		}
		door := [][]string{{"-n", n.hub(), "addr", "add", gate + "/30", "dev", port}, {"-n", n.hub(), "link", "set", port, "up"}}
		for _, s := range append(steps[:len(steps)-1:len(steps)-1], append(door, steps[len(steps)-1])...) {
			if err := n.ip(s...); err != nil {
				return err
			}
		}
	}
	return n.ip("netns", "exec", n.hub(), "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
}

func (n *network) close() {
	if !n.spaces {
		return
	}
	for i := 1; i <= n.size; i++ {
		_ = n.ip("netns", "del", n.space(i))
	}
	_ = n.ip("netns", "del", n.hub()) // takes this machine's end of the cable with it
	_ = n.ip("link", "del", n.id)
}

func (n *network) hub() string        { return n.id + "h" }
func (n *network) space(i int) string { return fmt.Sprint(n.id, "n", i) }

// address of a machine.
func (n *network) address(i int) string {
	if !n.spaces {
		return fmt.Sprint(n.prefix, 10+i)
	}
	return fmt.Sprint(n.prefix, 4*i+2)
}

func (n *network) gate(i int) string { return fmt.Sprint(n.prefix, 4*i+1) }

func (n *network) ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// on is a command that runs on a machine.
func (n *network) on(i int, name string, args ...string) *exec.Cmd {
	if i == 0 || !n.spaces {
		return exec.Command(name, args...)
	}
	return exec.Command("ip", append([]string{"netns", "exec", n.space(i), name}, args...)...)
}

// free is an address of this machine where nothing listens now.
func (n *network) free() (string, error) {
	l, err := net.Listen("tcp", n.address(0)+":0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

var errNoSpaces = problem.New(problem.Unavailable, "sandbox-network", "Without root nothing can be cut: all machines of this sandbox share one network.").
	WithMend("Run the exercise with sudo, or choose a scenario that only kills.")

// drop loses every packet from one machine to another; the way back stays.
func (n *network) drop(from, to int) error {
	if !n.spaces {
		return errNoSpaces
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut[[2]int{from, to}] {
		return nil
	}
	n.cut[[2]int{from, to}] = true
	return n.ip("-n", n.hub(), "rule", "add", "from", n.address(from), "to", n.address(to), "blackhole", "prio", n.priority(from, to))
}

func (n *network) priority(from, to int) string { return fmt.Sprint(100 + 16*from + to) }

// isolate cuts a machine off from all others, and them from it; one way, it is
// not heard, and hears.
func (n *network) isolate(i int, oneWay bool) error {
	for other := 0; other <= n.size; other++ {
		if other == i {
			continue
		}
		if err := n.drop(i, other); err != nil {
			return err
		}
		if !oneWay {
			if err := n.drop(other, i); err != nil {
				return err
			}
		}
	}
	return nil
}

// heal puts every cable of a machine back; 0: of all.
func (n *network) heal(i int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.cut {
		if i != 0 && c[0] != i && c[1] != i {
			continue
		}
		if err := n.ip("-n", n.hub(), "rule", "del", "prio", n.priority(c[0], c[1])); err != nil {
			return err
		}
		delete(n.cut, c)
	}
	return nil
}
