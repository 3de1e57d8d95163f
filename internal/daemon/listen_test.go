package daemon

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// Sockets get their mode and nothing else does: what another part of the
// process makes in that moment keeps its own. With a umask around the bind it
// did not, and of two at once one left the process with a umask of 0177.
func TestASocketHasItsModeAndNothingElseOfTheProcessGetsIt(t *testing.T) {
	dir, err := os.MkdirTemp("", "s") // paths of sockets are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	stop, made := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(made)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			path := filepath.Join(dir, fmt.Sprint("d", i))
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Error(err)
				return
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("a directory that was made meanwhile: %v %v", info, err)
				return
			}
		}
	}()
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			mode := []fs.FileMode{0o600, 0o660}[i%2]
			path := filepath.Join(dir, fmt.Sprint("s", i))
			d := &Daemon{}
			if err := d.listenUnix("local", path, mode); err != nil {
				t.Error(err)
				return
			}
			defer d.servers[0].listener.Close()
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
				t.Errorf("the socket is %v, want %v (%v)", info.Mode(), mode, err)
			}
			if c, err := net.Dial("unix", path); err != nil {
				t.Error(err)
			} else {
				_ = c.Close()
			}
		})
	}
	all.Wait()
	close(stop)
	<-made
}
