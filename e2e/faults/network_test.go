//go:build faults

package faults

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// network is some machines on one router, each a network namespace of its own
// with one cable. Cables can be cut both ways or one way: a packet that is cut
// is dropped in silence, as a broken switch does, and nobody is told.
type network struct {
	t    testing.TB
	id   string
	size int

	mu  sync.Mutex
	cut map[[2]int]bool // from, to
}

// newNetwork makes a network of machines 1 to size, or skips the test where
// namespaces cannot be made.
func newNetwork(t testing.TB, size int) *network {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	n := &network{t: t, id: fmt.Sprintf("f%d", rand.N(100_000_000)), size: size, cut: map[[2]int]bool{}} // others may test on this machine
	if out, err := n.try("netns", "add", n.hub()); err != nil {
		t.Skipf("network namespaces cannot be made here: %v %s", err, out)
	}
	t.Cleanup(func() {
		for i := range n.size {
			_, _ = n.try("netns", "del", n.space(i+1))
		}
		_, _ = n.try("netns", "del", n.hub())
	})
	for i := 1; i <= size; i++ {
		n.must("netns", "add", n.space(i))
		n.must("-n", n.hub(), "link", "add", fmt.Sprint("m", i), "type", "veth", "peer", "name", "cable", "netns", n.space(i))
		n.must("-n", n.hub(), "addr", "add", fmt.Sprintf("10.99.%d.1/24", i), "dev", fmt.Sprint("m", i))
		n.must("-n", n.hub(), "link", "set", fmt.Sprint("m", i), "up")
		n.must("-n", n.space(i), "addr", "add", n.address(i)+"/24", "dev", "cable")
		n.must("-n", n.space(i), "link", "set", "cable", "up")
		n.must("-n", n.space(i), "link", "set", "lo", "up")
		n.must("-n", n.space(i), "route", "add", "default", "via", fmt.Sprintf("10.99.%d.1", i))
	}
	n.must("netns", "exec", n.hub(), "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
	return n
}

func (n *network) hub() string          { return n.id + "h" }
func (n *network) space(i int) string   { return fmt.Sprint(n.id, "n", i) }
func (n *network) address(i int) string { return fmt.Sprintf("10.99.%d.2", i) }

func (n *network) try(args ...string) (string, error) {
	out, err := exec.Command("ip", args...).CombinedOutput()
	return string(out), err
}

func (n *network) must(args ...string) {
	n.t.Helper()
	if out, err := n.try(args...); err != nil {
		n.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// on is a command that runs on machine i.
func (n *network) on(i int, name string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", n.space(i), name}, args...)...)
}

// inside does something on machine i in this process: sockets that f opens, in
// its own goroutine, are of that machine for good.
func (n *network) inside(i int, f func() error) error {
	runtime.LockOSThread()
	here, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
	if err != nil {
		return err
	}
	defer here.Close()
	there, err := os.Open("/run/netns/" + n.space(i))
	if err != nil {
		return err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	done := f()
	if err := unix.Setns(int(here.Fd()), unix.CLONE_NEWNET); err != nil {
		return err // the thread stays locked, and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return done
}

// drop loses every packet from one machine to another; the way back stays.
func (n *network) drop(from, to int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.cut[[2]int{from, to}] {
		n.must("-n", n.hub(), "rule", "add", "from", n.address(from), "to", n.address(to), "blackhole", "prio", fmt.Sprint(100+10*from+to))
		n.cut[[2]int{from, to}] = true
	}
}

// heal lets packets through again.
func (n *network) heal(from, to int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut[[2]int{from, to}] {
		n.must("-n", n.hub(), "rule", "del", "prio", fmt.Sprint(100+10*from+to))
		delete(n.cut, [2]int{from, to})
	}
}

// isolate cuts a machine off from all others, both ways.
func (n *network) isolate(i int) {
	for other := 1; other <= n.size; other++ {
		if other != i {
			n.drop(i, other)
			n.drop(other, i)
		}
	}
}

// part cuts every cable between two groups of machines, both ways.
func (n *network) part(some, others []int) {
	for _, i := range some {
		for _, other := range others {
			n.drop(i, other)
			n.drop(other, i)
		}
	}
}

// healAll puts every cable back.
func (n *network) healAll() {
	for from := 1; from <= n.size; from++ {
		for to := 1; to <= n.size; to++ {
			n.heal(from, to)
		}
	}
}

// The network itself is tested: a test of partitions on a network that does
// not part proves nothing.
func TestTheNetworkOfTheTestsPartsAsItIsTold(t *testing.T) {
	n := newNetwork(t, 3)
	reaches := func(from, to int) bool {
		// The kernel answers a closed port with a reset at once; what is dropped
		// is not answered.
		out, err := n.on(from, "bash", "-c", fmt.Sprintf("timeout 1 bash -c 'echo > /dev/tcp/%s/9' 2>&1; echo $?", n.address(to))).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return !strings.HasSuffix(strings.TrimSpace(string(out)), "124")
	}
	if !reaches(1, 2) || !reaches(2, 1) || !reaches(1, 3) {
		t.Fatal("the machines do not reach each other")
	}
	n.drop(1, 2)
	if reaches(1, 2) || reaches(2, 1) { // the answer is dropped
		t.Error("a cable that is cut one way lets a connection through")
	}
	if !reaches(1, 3) || !reaches(2, 3) {
		t.Error("another cable was cut")
	}
	n.heal(1, 2)
	if !reaches(1, 2) || !reaches(2, 1) {
		t.Error("the cable is not whole again")
	}
	n.isolate(3)
	if reaches(3, 1) || reaches(2, 3) || !reaches(1, 2) {
		t.Error("machine 3 alone should be cut off")
	}
	n.healAll()
	if !reaches(3, 1) || !reaches(2, 3) {
		t.Error("machine 3 is still cut off")
	}
}
