package member

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// What etcd mends by itself is for whoever looks for it; what it does not is
// told, and what ends it is an error and the reason of the end.
func TestWhatEtcdMendsByItselfIsNotTold(t *testing.T) {
	t.Parallel()
	for level, want := range map[slog.Level][]string{
		slog.LevelInfo: {"INFO something is wrong", "ERROR it cannot go on"},
		slog.LevelDebug: {"DEBUG failed to update storage version", "DEBUG setting up serving from embedded etcd failed.", "DEBUG a connection was lost", "INFO something is wrong",
			"ERROR it cannot go on"},
	} {
		var out strings.Builder
		var ended error
		log := newEtcdLog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level})), func(err error) { ended = err })
		done := make(chan struct{})
		go func() {
			defer close(done) // its end ends this goroutine
			log.Info("a snapshot is made")
			log.Error("failed to update storage version", zap.String("cluster-version", "3.7.0"), zap.Error(errors.New("not yet")))
			log.Error("setting up serving from embedded etcd failed.", zap.Error(errors.New("server is stopping")))
			log.Error("closed", zap.Error(http.ErrServerClosed))
			log.Warn("a connection was lost")
			log.Error("something is wrong", zap.Field{Key: "n", Type: zapcore.Int64Type, Integer: 1})
			log.Fatal("it cannot go on", zap.Error(errors.New("no space left")))
		}()
		<-done
		var got []string
		for line := range strings.Lines(out.String()) {
			_, rest, _ := strings.Cut(line, "level=")
			word, rest, _ := strings.Cut(rest, " msg=")
			message, _, _ := strings.Cut(rest, " part=")
			got = append(got, word+" "+strings.Trim(message, `"`))
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("at %s:\n%s", level, strings.Join(got, "\n"))
		}
		if ended == nil || ended.Error() != "it cannot go on: no space left" {
			t.Errorf("it ended because of %v", ended)
		}
	}
}
