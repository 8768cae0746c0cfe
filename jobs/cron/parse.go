// Package cron reads the times of crontab(5) and says when they come next.
//
// A spec is five fields, minute hour day-of-month month day-of-week, each a list of numbers, names (jan, mon), ranges (1-5)
// and steps (*/10, 8-18/2); or @hourly, @daily, @weekly, @monthly, @yearly (and their synonyms); or "@every 90s".
// As in crontab(5) a day must match both day fields if one of them begins with an asterisk, else any of the two.
package cron

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// MaxSpec is the most bytes of a spec.
const MaxSpec = 256

// MaxEvery is the longest time of @every; the shortest is a second.
const MaxEvery = 366 * 24 * time.Hour

// Schedule is a spec that has been read. It is comparable; the zero value never comes.
type Schedule struct {
	minute, hour, dom, month, dow uint64 // bit n: the value n matches
	bothDays                      bool   // dom and dow must match, rather than any of them
	every                         time.Duration
}

// field is one of the five.
type field struct {
	name     string
	min, max int
	names    []string // of min, min+1, …
}

var fields = [...]field{
	{"minute", 0, 59, nil},
	{"hour", 0, 23, nil},
	{"day of month", 1, 31, nil},
	{"month", 1, 12, []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
	{"day of week", 0, 7, []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}},
}

var macros = map[string]string{
	"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
	"@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}

// Parse reads a spec. A spec that never comes, such as the 31st of April, is an error.
func Parse(spec string) (Schedule, error) {
	s, err := parse(spec)
	if err != nil {
		return Schedule{}, fmt.Errorf("cron: %q: %w", spec[:min(len(spec), MaxSpec)], err)
	}
	return s, nil
}

func parse(spec string) (s Schedule, err error) {
	if len(spec) > MaxSpec {
		return s, fmt.Errorf("%d bytes: want at most %d", len(spec), MaxSpec)
	}
	words := strings.Fields(spec)
	if len(words) > 0 && words[0][0] == '@' {
		if words[0] == "@every" {
			return parseEvery(words[1:])
		}
		full, ok := macros[words[0]]
		if !ok || len(words) > 1 {
			return s, fmt.Errorf("want @hourly, @daily, @weekly, @monthly, @yearly, or @every with a duration")
		}
		words = strings.Fields(full)
	}
	if len(words) != len(fields) {
		return s, fmt.Errorf("%d fields: want 5: minute, hour, day of month, month, day of week", len(words))
	}
	for i, bits := range []*uint64{&s.minute, &s.hour, &s.dom, &s.month, &s.dow} {
		if *bits, err = fields[i].parse(words[i]); err != nil {
			return s, fmt.Errorf("%s %q: %w", fields[i].name, words[i], err)
		}
	}
	if s.dow&(1<<7) != 0 { // 7 is Sunday, too
		s.dow = s.dow&^(1<<7) | 1
	}
	s.bothDays = words[2][0] == '*' || words[4][0] == '*'
	if s.bothDays && !s.hasDay() {
		return s, fmt.Errorf("there is no such day in these months")
	}
	return s, nil
}

func parseEvery(words []string) (s Schedule, err error) {
	if len(words) != 1 {
		return s, fmt.Errorf("want one duration after @every, such as 90s or 1h30m")
	}
	d, err := time.ParseDuration(words[0])
	if err != nil {
		return s, fmt.Errorf("%q is not a duration such as 90s or 1h30m", words[0])
	}
	if d < time.Second || d > MaxEvery || d%time.Second != 0 {
		return s, fmt.Errorf("every %s: want whole seconds, at least one, at most %s", d, MaxEvery)
	}
	return Schedule{every: d}, nil
}

// hasDay reports whether one of the months has one of the days of the month.
func (s *Schedule) hasDay() bool {
	for m, days := range [...]int{1: 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31} {
		if s.month&(1<<m) != 0 && s.dom&(1<<(days+1)-1) != 0 {
			return true
		}
	}
	return false
}

func (f *field) parse(list string) (bits uint64, err error) {
	for part := range strings.SplitSeq(list, ",") {
		b, err := f.parseRange(part)
		if err != nil {
			return 0, err
		}
		bits |= b
	}
	return bits, nil
}

// parseRange reads VALUE, FROM-TO, FROM-TO/STEP, * or */STEP.
func (f *field) parseRange(part string) (bits uint64, err error) {
	span, stepText, hasStep := strings.Cut(part, "/")
	from, to, step := f.min, f.max, 1
	if f.max == 7 {
		to = 6 // of an asterisk: Sunday once, so that steps come out right
	}
	if first, last, isRange := strings.Cut(span, "-"); span != "*" {
		if from, err = f.value(first); err != nil {
			return 0, err
		}
		to = from
		if isRange {
			if to, err = f.value(last); err != nil {
				return 0, err
			}
		} else if hasStep {
			return 0, fmt.Errorf("a step must follow a range or an asterisk")
		}
		if to == 0 && from > 0 && f.max == 7 {
			to = 7 // sat-sun
		}
	}
	if to < from {
		return 0, fmt.Errorf("range from %d down to %d", from, to)
	}
	if hasStep {
		if step, err = number(stepText); err != nil || step < 1 || step > f.max {
			return 0, fmt.Errorf("step %q: want 1 to %d", stepText, f.max)
		}
	}
	for v := from; v <= to; v += step {
		bits |= 1 << v
	}
	return bits, nil
}

// value reads a number or a name.
func (f *field) value(text string) (int, error) {
	for i, name := range f.names {
		if strings.EqualFold(text, name) {
			return f.min + i, nil
		}
	}
	v, err := number(text)
	if err != nil || v < f.min || v > f.max {
		return 0, fmt.Errorf("%q: want %d to %d", text, f.min, f.max)
	}
	return v, nil
}

// number reads digits alone.
func number(text string) (int, error) {
	v, err := strconv.ParseUint(text, 10, 8)
	return int(v), err
}

// Zone finds a time zone by its name, such as Europe/Berlin; "" is UTC. The zone of the machine, Local, is not taken: the
// processes that share a schedule may be on different ones.
func Zone(name string) (*time.Location, error) {
	if name == "Local" {
		return nil, fmt.Errorf("cron: time zone Local: want the name of a zone, such as Europe/Berlin")
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("cron: time zone: %w", err)
	}
	return loc, nil
}
