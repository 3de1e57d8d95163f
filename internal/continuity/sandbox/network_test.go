package sandbox

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
)

// A sandbox of partitions on a network that does not part shows nothing.
func TestTheNetworkOfASandboxPartsAsItIsTold(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	n, err := newNetwork(2)
	if err != nil {
		t.Skip(err)
	}
	defer n.close()
	if !n.spaces {
		t.Skip(n.why)
	}
	// The kernel answers a closed port with a reset at once; what is dropped is
	// not answered.
	reaches := func(from, to int, within string) bool {
		out, err := n.on(from, "bash", "-c", fmt.Sprintf("timeout %s bash -c 'echo > /dev/tcp/%s/9' 2>&1; echo $?", within, n.address(to))).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return !strings.HasSuffix(strings.TrimSpace(string(out)), "124")
	}
	all := func(what string, want bool, pairs ...[2]int) {
		t.Helper()
		within := "1"
		if want { // a busy machine may take its time
			within = "30"
		}
		for _, p := range pairs {
			if reaches(p[0], p[1], within) != want {
				t.Errorf("%s: %d reaches %d is not %v", what, p[0], p[1], want)
			}
		}
	}
	all("whole", true, [2]int{0, 1}, [2]int{1, 0}, [2]int{1, 2}, [2]int{2, 1})
	if err := n.isolate(1, false); err != nil {
		t.Fatal(err)
	}
	all("one is cut off", false, [2]int{0, 1}, [2]int{1, 2})
	all("one is cut off", true, [2]int{0, 2}, [2]int{2, 0})
	if err := n.heal(1); err != nil {
		t.Fatal(err)
	}
	all("healed", true, [2]int{0, 1}, [2]int{1, 2}, [2]int{2, 1})
	addr, err := n.free()
	if err != nil {
		t.Fatal(err)
	}
	if host, _, _ := net.SplitHostPort(addr); host != n.address(0) {
		t.Errorf("services listen on %s", addr)
	}
	n.close()
	if _, err := os.Stat("/run/netns/" + n.space(1)); !os.IsNotExist(err) {
		t.Errorf("the network is still there: %v", err)
	}
}
