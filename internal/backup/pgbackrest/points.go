package pgbackrest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/target"
)

// info is the part of `info --output=json` that is used here. It exits 0
// whatever it finds: a missing repository and a wrong key are a status.
type info struct {
	Name   string `json:"name"`
	Status struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"status"`
	Repo []struct {
		Status struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"status"`
	} `json:"repo"`
	DB []struct {
		ID       int    `json:"id"`
		SystemID uint64 `json:"system-id"`
		Version  string `json:"version"`
	} `json:"db"`
	Backup []backupInfo `json:"backup"`
}

type backupInfo struct {
	Label string `json:"label"`
	Type  string `json:"type"`
	Error bool   `json:"error"` // page checksums did not match while it was made
	LSN   struct {
		Start string `json:"start"`
		Stop  string `json:"stop"`
	} `json:"lsn"`
	Archive struct {
		Start string `json:"start"`
		Stop  string `json:"stop"`
	} `json:"archive"`
	Timestamp struct {
		Start int64 `json:"start"`
		Stop  int64 `json:"stop"`
	} `json:"timestamp"`
	Info struct {
		Size       int64 `json:"size"`
		Repository struct {
			Delta int64 `json:"delta"`
		} `json:"repository"`
	} `json:"info"`
	Reference []string `json:"reference"`
	Database  struct {
		ID int `json:"id"`
	} `json:"database"`
}

// Status codes of info (src/command/info/info.c).
const (
	statusOK        = 0
	statusNoPath    = 1 // no repository
	statusNoBackup  = 2
	statusNoData    = 3
	statusOtherInfo = 99 // the message has the error
)

// parseInfo reads the answer of info for one repository.
func parseInfo(text []byte) (info, error) {
	var all []info
	// What a wrong key makes of a file is quoted in the answer, byte by byte.
	clean := strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(text), "?"))
	if err := json.Unmarshal([]byte(clean), &all); err != nil {
		return info{}, fmt.Errorf("reading the list of backups: %w", err)
	}
	for _, i := range all {
		if i.Name == stanza {
			return i, nil
		}
	}
	return info{}, nil
}

// info asks for what the repository at a target says about itself.
func (e *Engine) info(ctx context.Context, t target.Target) (info, error) {
	out, err := e.run(ctx, t, nil, "--output=json", "info")
	if err != nil {
		return info{}, err
	}
	i, err := parseInfo(out.Out)
	if err != nil {
		return info{}, err
	}
	code, message := i.Status.Code, i.Status.Message
	if len(i.Repo) > 0 {
		code, message = i.Repo[0].Status.Code, i.Repo[0].Status.Message
	}
	switch {
	case i.Name == "" || code == statusNoPath || code == statusNoData:
		return i, missing(t, "")
	case code == statusOtherInfo:
		return i, e.judgeKey(ctx, t, failure(t, engine.Output{Last: strings.Split("ERROR: "+message, "\n")}, fmt.Errorf("info: status %d", code)))
	}
	return i, nil
}

// Points lists the backups in the repository, oldest first.
func (e *Engine) Points(ctx context.Context, t target.Target) ([]engine.Point, error) {
	i, err := e.info(ctx, t)
	if err != nil {
		return nil, err
	}
	return i.points(t), nil
}

func (i info) points(t target.Target) []engine.Point {
	points := make([]engine.Point, 0, len(i.Backup))
	for _, b := range i.Backup {
		points = append(points, b.point(t))
	}
	slices.SortStableFunc(points, func(a, b engine.Point) int {
		if c := a.Stopped.Compare(b.Stopped); c != 0 {
			return c
		}
		return strings.Compare(a.Label, b.Label)
	})
	return points
}

func (b backupInfo) point(t target.Target) engine.Point {
	p := engine.Point{
		Engine: Name, Target: t.Name, Label: b.Label, Type: engine.Type(b.Type),
		Started: time.Unix(b.Timestamp.Start, 0).UTC(), Stopped: time.Unix(b.Timestamp.Stop, 0).UTC(),
		StartLSN: b.LSN.Start, StopLSN: b.LSN.Stop, StartWAL: b.Archive.Start, StopWAL: b.Archive.Stop,
		Bytes: b.Info.Size, Stored: b.Info.Repository.Delta, Requires: b.Reference,
	}
	switch b.Type {
	case "diff":
		p.Type = engine.Differential
	case "incr":
		p.Type = engine.Incremental
	}
	if len(b.Archive.Start) >= 8 {
		if n, err := strconv.ParseUint(b.Archive.Start[:8], 16, 32); err == nil {
			p.Timeline = uint32(n)
		}
	}
	if b.Error {
		p.Broken = "Pages of the database did not match their checksums while the backup was made."
	}
	return p
}

// option is pgBackRest's word for a type of backup.
func option(t engine.Type) string {
	switch t {
	case engine.Full:
		return "full"
	case engine.Incremental:
		return "incr"
	default:
		return "diff" // what a daily run wants; the first is full anyway
	}
}
