//go:build faults

package pgbackrest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/missionopsai/foundry/internal/backup/engine/enginetest"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/backup/targettest"
)

func TestConformanceWithABucket(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes; make test-faults runs it, and the short pass the suite of a directory")
	}
	t.Parallel()
	shared := targettest.StartS3(t)
	n := 0
	var mu sync.Mutex
	enginetest.RunParallel(t, func(t *testing.T) enginetest.World {
		mu.Lock()
		n++
		near, far := fmt.Sprintf("near-%d", n), fmt.Sprintf("far-%d", n)
		mu.Unlock()
		server, volume := shared, ""
		if strings.Contains(t.Name(), "read-only") || strings.Contains(t.Name(), "full") {
			dir, remount := enginetest.Volume(t, 160)
			server = targettest.StartS3In(t, dir)
			if remount != nil {
				volume = dir
			}
		}
		server.Bucket(t, near)
		server.Bucket(t, far)
		at, second := server.Open(t, "near", near), server.Open(t, "far", far)
		// pgBackRest knows a server by its name, never by its address.
		for _, c := range []*target.S3Config{at.S3, second.S3} {
			c.Endpoint = strings.Replace(c.Endpoint, "127.0.0.1", "localhost", 1)
		}
		w := world(t, at, second, "", nil)
		w.Secrets = append(w.Secrets, server.Secret)
		bucket := filepath.Join(server.Root, near)
		w.ReadOnly = func(t testing.TB) func() { server.Restart(t, "--readonly"); return func() { server.Restart(t) } }
		if volume != "" {
			w.Full = func(t testing.TB) func() { return enginetest.Fill(t, volume) }
		}
		w.Files = func(t testing.TB) []string { return filesBelow(t, bucket) }
		w.Gone = func(t testing.TB) func() {
			if err := os.Rename(bucket, bucket+".away"); err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := os.Rename(bucket+".away", bucket); err != nil {
					t.Fatal(err)
				}
			}
		}
		return w
	})
}
