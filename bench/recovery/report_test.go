//go:build linux

package main

import (
	"strings"
	"testing"
	"time"
)

func TestADrillThatDidNotPassEndsTheMeasurement(t *testing.T) {
	d, err := readDrill([]byte(`{"outcome":"pass","restore_seconds":1.5,"recovery_seconds":2,"prove_seconds":0.25}`))
	if err != nil || d.Restore != 1.5 || d.Recovery != 2 || d.Prove != 0.25 {
		t.Errorf("read %+v, %v", d, err)
	}
	if _, err := readDrill([]byte(`{"outcome":"inconclusive","reason":"nobody looked"}`)); err == nil || !strings.Contains(err.Error(), "nobody looked") {
		t.Errorf("a drill that proved nothing is measured: %v", err)
	}
	if _, err := readDrill([]byte(`drill`)); err == nil {
		t.Error("what is no drill is measured")
	}
}

func TestRatiosAreTakenWithinARound(t *testing.T) {
	m, low, high := ratio([]pair{{cost{wall: time.Second}, cost{wall: time.Second}}, {cost{wall: 10 * time.Second}, cost{wall: 20 * time.Second}}, {cost{wall: time.Second}, cost{wall: 3 * time.Second}}}, wall)
	if m != 2 || low != 1 || high != 3 {
		t.Errorf("median %v, from %v to %v", m, low, high)
	}
}
