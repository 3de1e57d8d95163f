//go:build faults

package pgbackrest_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/backup/engine/enginetest"
	"github.com/missionopsai/foundry/internal/db/dbtest"
)

func TestConformanceWithDirectories(t *testing.T) {
	enginetest.RunParallel(t, func(t *testing.T) enginetest.World {
		dir := dbtest.Dir(t)
		at, volume, remount := filepath.Join(dir, "near"), "", func(string) {}
		if strings.Contains(t.Name(), "read-only") || strings.Contains(t.Name(), "full") {
			volume, remount = enginetest.Volume(t, 160)
			at = filepath.Join(volume, "near")
		}
		return world(t, directory(t, "near", at), directory(t, "far", filepath.Join(dir, "far")), volume, remount)
	})
}
