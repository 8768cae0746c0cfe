package cron_test

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the tests must not depend on the machine's zones

	"wheelhouse/jobs/cron"
)

const layout = "2006-01-02 15:04:05 -0700"

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func TestNext(t *testing.T) {
	for _, tt := range []struct{ spec, from, want string }{
		{"* * * * *", "2026-11-21 12:00:00 +0000", "2026-11-21 12:01:00 +0000"},
		{"* * * * *", "2026-12-31 23:59:59 +0000", "2027-01-01 00:00:00 +0000"},
		{"*/10 * * * *", "2026-11-21 12:00:00 +0000", "2026-11-21 12:10:00 +0000"},
		{"*/7 * * * *", "2026-11-21 12:56:00 +0000", "2026-11-21 13:00:00 +0000"},
		{"5,35-37 8-18/5 * * *", "2026-11-21 08:36:10 +0000", "2026-11-21 08:37:00 +0000"},
		{"5,35-37 8-18/5 * * *", "2026-11-21 08:37:00 +0000", "2026-11-21 13:05:00 +0000"},
		{"5,35-37 8-18/5 * * *", "2026-11-21 18:37:00 +0000", "2026-11-22 08:05:00 +0000"},
		{"0 0 29 2 *", "2026-11-21 12:00:00 +0000", "2028-02-29 00:00:00 +0000"},
		{"0 0 29 2 */6", "2028-02-29 12:00:00 +0000", "2032-02-29 00:00:00 +0000"}, // Sunday or Saturday
		{"0 0 31 * *", "2026-11-21 12:00:00 +0000", "2026-12-31 00:00:00 +0000"},
		{"0 9 13 * fri", "2026-11-21 12:00:00 +0000", "2026-11-27 09:00:00 +0000"}, // any of the two
		{"0 9 13 * fri", "2026-12-11 09:00:00 +0000", "2026-12-13 09:00:00 +0000"},
		{"0 9 */2 * Mon-Wed", "2026-11-21 12:00:00 +0000", "2026-11-23 09:00:00 +0000"}, // both: odd, Monday to Wednesday
		{"0 9 */2 * Mon-Wed", "2026-11-23 09:00:00 +0000", "2026-11-25 09:00:00 +0000"},
		{"0 0 * * 7", "2026-11-21 12:00:00 +0000", "2026-11-22 00:00:00 +0000"},
		{"0 0 * * sat-sun", "2026-11-22 12:00:00 +0000", "2026-11-28 00:00:00 +0000"},
		{"0 0 1 JAN,jul *", "2026-11-21 12:00:00 +0000", "2027-01-01 00:00:00 +0000"},
		{"@hourly", "2026-11-21 12:00:01 +0000", "2026-11-21 13:00:00 +0000"},
		{"@daily", "2026-11-21 12:00:00 +0000", "2026-11-22 00:00:00 +0000"},
		{"@weekly", "2026-11-21 12:00:00 +0000", "2026-11-22 00:00:00 +0000"},
		{"@monthly", "2026-11-21 12:00:00 +0000", "2026-12-01 00:00:00 +0000"},
		{"@annually", "2026-11-21 12:00:00 +0000", "2027-01-01 00:00:00 +0000"},
		{"@every 90s", "2026-11-21 12:00:00 +0000", "2026-11-21 12:01:30 +0000"},
		{"@every 90s", "2026-11-21 12:01:29 +0000", "2026-11-21 12:01:30 +0000"},
		{"@every 7s", "1969-12-31 23:59:50 +0000", "1969-12-31 23:59:53 +0000"},
	} {
		check(t, tt.spec, "UTC", tt.from, tt.want)
	}
}

// Germany puts clocks forward on 2026-03-29 at 02:00 +0100 and back on 2026-10-25 at 03:00 +0200.
func TestNextSummerTime(t *testing.T) {
	for _, tt := range []struct{ zone, spec, from, want string }{
		{"Europe/Berlin", "30 2 * * *", "2026-03-28 02:30:00 +0100", "2026-03-29 03:00:00 +0200"}, // skipped: once after
		{"Europe/Berlin", "30 2 * * *", "2026-03-29 03:00:00 +0200", "2026-03-30 02:30:00 +0200"},
		{"Europe/Berlin", "*/10 2 * * *", "2026-03-29 01:59:59 +0100", "2026-03-29 03:00:00 +0200"},
		{"Europe/Berlin", "*/10 2 * * *", "2026-03-29 03:00:00 +0200", "2026-03-30 02:00:00 +0200"},
		{"Europe/Berlin", "0,30 2,3 * * *", "2026-03-29 03:00:00 +0200", "2026-03-29 03:30:00 +0200"},
		{"Europe/Berlin", "*/30 * * * *", "2026-03-29 01:30:00 +0100", "2026-03-29 03:00:00 +0200"}, // real time
		{"Europe/Berlin", "30 * * * *", "2026-03-29 01:30:00 +0100", "2026-03-29 03:30:00 +0200"},
		{"Europe/Berlin", "30 2 * * *", "2026-10-25 02:00:00 +0200", "2026-10-25 02:30:00 +0200"}, // repeated: once
		{"Europe/Berlin", "30 2 * * *", "2026-10-25 02:30:00 +0200", "2026-10-26 02:30:00 +0100"},
		{"Europe/Berlin", "30 2 * * *", "2026-10-25 02:10:00 +0100", "2026-10-26 02:30:00 +0100"},
		{"Europe/Berlin", "0 3 * * *", "2026-10-25 02:30:00 +0200", "2026-10-25 03:00:00 +0100"},
		{"Europe/Berlin", "30 * * * *", "2026-10-25 02:30:00 +0200", "2026-10-25 02:30:00 +0100"},    // real time
		{"America/Sao_Paulo", "0 0 * * *", "2018-11-03 12:00:00 -0300", "2018-11-04 01:00:00 -0200"}, // midnight is skipped
		{"America/Sao_Paulo", "15 * * * 0", "2018-11-03 12:00:00 -0300", "2018-11-04 01:15:00 -0200"},
		{"Pacific/Apia", "0 12 30 12 *", "2011-12-29 12:00:00 -1000", "2011-12-31 00:00:00 +1400"},      // the day is skipped
		{"Australia/Lord_Howe", "10 2 * * *", "2026-10-03 12:00:00 +1030", "2026-10-04 02:30:00 +1100"}, // half an hour
	} {
		check(t, tt.spec, tt.zone, tt.from, tt.want)
	}
}

func check(t *testing.T, spec, zoneName, from, want string) {
	t.Helper()
	s, err := cron.Parse(spec)
	if err != nil {
		t.Error(err)
		return
	}
	at, err := time.Parse(layout, from)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Next(at.In(zone(t, zoneName))).Format(layout); got != want {
		t.Errorf("%s in %s after %s = %s; want %s", spec, zoneName, from, got, want)
	}
}

func TestParseErrors(t *testing.T) {
	for spec, want := range map[string]string{
		"":                       "0 fields",
		"* * * *":                "4 fields",
		"* * * * * *":            "6 fields",
		"60 * * * *":             `minute "60"`,
		"* 24 * * *":             `hour "24"`,
		"* * 0 * *":              "want 1 to 31",
		"* * * 13 *":             "want 1 to 12",
		"* * * * 8":              "want 0 to 7",
		"* * * foo *":            `"foo"`,
		"5-1 * * * *":            "from 5 down to 1",
		"*/0 * * * *":            `step "0"`,
		"*/x * * * *":            `step "x"`,
		"5/10 * * * *":           "must follow a range",
		"1,,2 * * * *":           `""`,
		"-1 * * * *":             `""`,
		"+1 * * * *":             `"+1"`,
		"0 0 31 4 *":             "no such day",
		"0 0 30 feb *":           "no such day",
		"@reboot":                "want @hourly",
		"@daily x":               "want @hourly",
		"@every":                 "want one duration",
		"@every 1":               "not a duration",
		"@every 1500ms":          "whole seconds",
		"@every 0s":              "at least one",
		"@every 10000h":          "at most",
		"@every -5s":             "at least one",
		strings.Repeat("*", 300): "want at most 256",
	} {
		if _, err := cron.Parse(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q) = %v; want %q", spec, err, want)
		}
	}
}

// TestNextByTrial compares with the definition, minute by minute, in a zone without changes.
func TestNextByTrial(t *testing.T) {
	match := func(s cron.Schedule, u time.Time) bool { return s.Next(u.Add(-time.Second)).Equal(u) }
	for spec, def := range map[string]func(u time.Time) bool{
		"*/13 3-5 * * *": func(u time.Time) bool { return u.Minute()%13 == 0 && u.Hour() >= 3 && u.Hour() <= 5 },
		"7 * 1,15 * *":   func(u time.Time) bool { return u.Minute() == 7 && (u.Day() == 1 || u.Day() == 15) },
		"0 6 10-12 * tue": func(u time.Time) bool {
			return u.Minute() == 0 && u.Hour() == 6 && (u.Day() >= 10 && u.Day() <= 12 || u.Weekday() == 2)
		},
		"59 23 * 2 1-5/2": func(u time.Time) bool {
			return u.Minute() == 59 && u.Hour() == 23 && u.Month() == 2 && u.Weekday()%2 == 1
		},
	} {
		s, err := cron.Parse(spec)
		if err != nil {
			t.Fatal(err)
		}
		u := time.Date(2027, 1, 20, 0, 0, 0, 0, time.UTC)
		for range 60 * 24 * 60 {
			if want := def(u); match(s, u) != want {
				t.Fatalf("%s comes at %s: %v; want %v", spec, u, !want, want)
			}
			u = u.Add(time.Minute)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"* * * * *", "*/5 1-3,9 29 2 */6", "@every 90s", "@daily", "0 0 31 4 *", "1-2-3 * * * *", "59 23 31 12 sun"} {
		f.Add(s, int64(1790000000))
	}
	berlin := zone(f, "Europe/Berlin")
	f.Fuzz(func(t *testing.T, spec string, at int64) {
		s, err := cron.Parse(spec)
		if err != nil {
			return
		}
		from := time.Unix(at%(1<<33), 0).In(berlin)
		next := s.Next(from)
		if !next.After(from) {
			t.Fatalf("%q after %s = %s", spec, from, next)
		}
		if again := s.Next(next.Add(-time.Second)); !again.Equal(next) && !strings.HasPrefix(spec, "@") {
			t.Fatalf("%q a second before %s = %s", spec, next, again)
		}
	})
}
