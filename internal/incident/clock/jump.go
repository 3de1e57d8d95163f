package clock

import (
	"fmt"
	"time"

	"github.com/missionopsai/foundry/internal/plan"
)

// Pulse is when a node looked at its clocks: by the wall, and by the counter
// that nobody can set (since any fixed moment of this process).
type Pulse struct {
	Wall    time.Time
	Counter time.Duration
}

// JumpBound is by how much a node's wall clock may leave its counter between
// two looks without a word: NTP slews by at most 0.5 ms a second, and a leap
// second is one second.
const JumpBound = 2 * time.Second

// Jump says by how much the wall clock of a node jumped between two pulses,
// and in words what that means, where it is more than the bound. Bounds are
// instants reckoned from recorded facts: a jump shifts no bound, it makes this
// node misjudge the present.
func Jump(before, now Pulse) (by time.Duration, says string, jumped bool) {
	by = now.Wall.Sub(before.Wall) - (now.Counter - before.Counter)
	if by.Abs() <= JumpBound {
		return by, "", false
	}
	way := "forward"
	if by < 0 {
		way = "back"
	}
	return by, fmt.Sprintf("The clock of this node was set %s by %s. Bounds are instants and have not moved; what this node called time left before is wrong by as much.", way, plan.FormatDuration(by.Abs().Round(time.Second))), true
}
