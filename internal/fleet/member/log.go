package member

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// etcdLog writes what etcd logs to slog, two steps quieter: it warns of every
// lost connection, which the fleet says better.
type etcdLog struct {
	log    *slog.Logger
	fields []zapcore.Field
}

// newEtcdLog makes etcd's logger. Where etcd would end the process or panic (it
// cannot write to its disk), only its own goroutine ends and fatal is told: the
// gateway in the same process goes on.
func newEtcdLog(log *slog.Logger, fatal func(error)) *zap.Logger {
	return zap.New(&etcdLog{log: log.With("part", "etcd")}, zap.WithFatalHook(fatalHook(fatal)), zap.WithPanicHook(fatalHook(fatal)))
}

type fatalHook func(error)

// OnWrite implements zapcore.CheckWriteHook.
func (h fatalHook) OnWrite(e *zapcore.CheckedEntry, f []zapcore.Field) {
	err := errors.New(e.Message)
	for _, field := range f {
		if cause, ok := field.Interface.(error); ok {
			err = fmt.Errorf("%s: %w", e.Message, cause)
		}
	}
	h(err)
	runtime.Goexit()
}

// mends lists what etcd calls an error and mends by itself: it tries again
// until the store has been written once, or ends because it was told to.
var mends = []string{"failed to update storage version", "setting up serving from embedded etcd failed."}

func quieter(l zapcore.Level) slog.Level {
	switch {
	case l >= zapcore.DPanicLevel:
		return slog.LevelError
	case l == zapcore.ErrorLevel:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

// Enabled implements zapcore.Core. What etcd calls information is not even
// prepared.
func (e *etcdLog) Enabled(l zapcore.Level) bool {
	return l >= zapcore.WarnLevel && e.log.Enabled(context.Background(), quieter(l))
}

// With implements zapcore.Core.
func (e *etcdLog) With(f []zapcore.Field) zapcore.Core {
	return &etcdLog{e.log, append(e.fields[:len(e.fields):len(e.fields)], f...)}
}

// Check implements zapcore.Core.
func (e *etcdLog) Check(entry zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if e.Enabled(entry.Level) {
		return c.AddCore(entry, e)
	}
	return c
}

// Write implements zapcore.Core.
func (e *etcdLog) Write(entry zapcore.Entry, f []zapcore.Field) error {
	for _, field := range f {
		if err, ok := field.Interface.(error); ok && (errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed)) {
			return nil // it was told to stop
		}
	}
	level := quieter(entry.Level)
	if level < slog.LevelError && slices.Contains(mends, entry.Message) {
		level = slog.LevelDebug
		if !e.log.Enabled(context.Background(), level) {
			return nil
		}
	}
	to := zapcore.NewMapObjectEncoder()
	for _, field := range append(e.fields[:len(e.fields):len(e.fields)], f...) {
		field.AddTo(to)
	}
	attrs := make([]slog.Attr, 0, len(to.Fields))
	for k, v := range to.Fields {
		attrs = append(attrs, slog.Any(k, v))
	}
	e.log.LogAttrs(context.Background(), level, entry.Message, attrs...)
	return nil
}

// Sync implements zapcore.Core.
func (e *etcdLog) Sync() error { return nil }
