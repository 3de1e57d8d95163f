package backup

import (
	"testing"

	"github.com/missionopsai/foundry/internal/db/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }
