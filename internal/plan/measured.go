package plan

import "time"

// Measured is what the platform knows from drills and probes, in place of
// assumptions. The zero value knows nothing.
type Measured struct {
	RestoreRate float64                  `json:"restore_bytes_per_second,omitempty"` // of the last drill; bytes a second, 0 when unknown
	Replay      time.Duration            `json:"replay,omitempty"`                   // of the log, in the last drill
	Steps       map[string]time.Duration `json:"steps,omitempty"`                    // "recovery plan/step" → what it took when last exercised
	BackupTook  map[string]time.Duration `json:"backup_took,omitempty"`              // backup → its last run
	LogLag      map[string]time.Duration `json:"log_lag,omitempty"`                  // backup → how far its log is behind
	NewestPoint map[string]time.Time     `json:"newest_point,omitempty"`             // backup → newest point proven restorable
	Sizes       map[string]int64         `json:"sizes,omitempty"`                    // function → bytes
}
