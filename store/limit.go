package store

import (
	"fmt"
	"strconv"
	"strings"
)

// Operators limit background work while it runs by settings: limit.<kind>.bytes and limit.<kind>.objects, a second and for
// each operation of the kind, and LimitBackground, for all operations of a worker together.
const (
	LimitBackground = "limit.background.bytes"
	limitPrefix     = "limit."
)

// ReservedSettings begins the keys of settings that programs make for themselves: operators neither see nor change them.
const ReservedSettings = "metacache."

// LimitSetting is the key that limits a kind of operation; what is bytes or objects.
func LimitSetting(kind OperationKind, what string) string {
	return limitPrefix + string(kind) + "." + what
}

// ParseRate reads a number a second with an optional decimal unit (k, M, G, T; B and /s may follow): 50MB, 1.5G/s, 200.
func ParseRate(s string) (float64, error) {
	text := strings.TrimSuffix(strings.TrimSpace(s), "/s")
	text = strings.TrimSuffix(strings.TrimSuffix(text, "B"), "b")
	scale := 1.0
	if n := len(text); n > 0 {
		switch text[n-1] {
		case 'k', 'K':
			scale = 1e3
		case 'M':
			scale = 1e6
		case 'G':
			scale = 1e9
		case 'T':
			scale = 1e12
		}
		if scale > 1 {
			text = text[:n-1]
		}
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || !(v >= 0) || v*scale > 1e18 {
		return 0, fmt.Errorf("%q: want a number a second, such as 50MB or 200; 0 is no limit", s)
	}
	return v * scale, nil
}

// CheckSetting reports what is wrong with the value of a setting; nil for settings that are not known.
func CheckSetting(key, value string) error {
	if strings.HasPrefix(key, ReservedSettings) {
		return fmt.Errorf("setting %q: the programs keep it for themselves", key)
	}
	switch key {
	case SettingDeadAfter:
		_, err := ParseDeadAfter(value)
		return err
	case SettingYield:
		_, err := ParseYield(value)
		return err
	}
	name, ok := strings.CutPrefix(key, limitPrefix)
	if !ok || value == "" {
		return nil
	}
	kind, what, _ := strings.Cut(name, ".")
	_, err := ParseOperationKind(kind)
	if key != LimitBackground && (err != nil || what != "bytes" && what != "objects") {
		return fmt.Errorf("setting %q: want limit.<kind>.bytes, limit.<kind>.objects or %s; kinds are %q", key, LimitBackground, OperationKinds)
	}
	if _, err := ParseRate(value); err != nil {
		return fmt.Errorf("setting %s: %w", key, err)
	}
	return nil
}
