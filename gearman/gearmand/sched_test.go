package gearmand

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestSchedule(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip(err) // a machine without time zones
	}
	at := func(s string) time.Time {
		v, err := time.ParseInLocation("2006-01-02 15:04:05", s, berlin)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, tt := range []struct {
		name, now string
		fields    [5]string
		want      string // "" for never
	}{
		{"any", "2026-03-04 05:06:07", [5]string{}, "2026-03-04 05:07:00"},
		{"strictly later", "2026-03-04 05:06:00", [5]string{"6", "5"}, "2026-03-05 05:06:00"},
		{"this hour", "2026-03-04 05:06:07", [5]string{"30"}, "2026-03-04 05:30:00"},
		{"next hour", "2026-03-04 05:36:07", [5]string{"30"}, "2026-03-04 06:30:00"},
		{"hour alone begins at its first minute", "2026-03-04 05:36:07", [5]string{"", "7"}, "2026-03-04 07:00:00"},
		{"end of year", "2026-12-31 23:59:59", [5]string{"0", "0"}, "2027-01-01 00:00:00"},
		{"monday is 0", "2026-03-04 05:06:07", [5]string{"0", "12", "", "", "0"}, "2026-03-09 12:00:00"},
		{"sunday is 6", "2026-03-04 05:06:07", [5]string{"0", "12", "", "", "6"}, "2026-03-08 12:00:00"},
		{"leap day", "2026-03-04 05:06:07", [5]string{"0", "0", "29", "2"}, "2028-02-29 00:00:00"},
		{"leap day on a monday", "2026-03-04 05:06:07", [5]string{"0", "0", "29", "2", "0"}, "2044-02-29 00:00:00"},
		{"31st", "2026-04-01 00:00:00", [5]string{"0", "0", "31"}, "2026-05-31 00:00:00"},
		{"an hour that the clocks leave out", "2026-03-28 12:00:00", [5]string{"30", "2"}, "2026-03-30 02:30:00"},
		{"never", "2026-03-04 05:06:07", [5]string{"", "", "30", "2"}, ""},
		{"never either", "2026-03-04 05:06:07", [5]string{"", "", "31", "6", "1"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var args [][]byte
			for _, f := range tt.fields {
				args = append(args, []byte(f))
			}
			s, err := parseSchedule(args)
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.next(at(tt.now))
			if tt.want == "" {
				if err == nil {
					t.Fatalf("next = %v; want none", got)
				}
				return
			}
			if err != nil || !got.Equal(at(tt.want)) {
				t.Errorf("next = %v, %v; want %v", got, err, tt.want)
			}
		})
	}
}

func FuzzSchedule(f *testing.F) {
	f.Add("0", "1", "", "", "", int64(0))
	f.Add("59", "23", "31", "12", "6", int64(1<<40))
	f.Add("x", "-1", "99999999999999999999", "2 ", "", int64(5))
	f.Fuzz(func(t *testing.T, minute, hour, mday, month, wday string, now int64) {
		s, err := parseSchedule([][]byte{[]byte(minute), []byte(hour), []byte(mday), []byte(month), []byte(wday)})
		if err != nil {
			return
		}
		from := time.Unix(now%(1<<34), 0).UTC()
		at, err := s.next(from)
		if err != nil {
			return
		}
		if !at.After(from) || !is(s.minute, at.Minute()) || !is(s.hour, at.Hour()) || !is(s.mday, at.Day()) || !is(s.month, int(at.Month())) {
			t.Errorf("next(%v) of %+v = %v", from, s, at)
		}
	})
}

func TestTimeHeap(t *testing.T) {
	var h timeHeap
	var all []*job
	for i := range 500 {
		j := &job{at: rand.Int64N(100), num: uint64(i), place: -1}
		h.push(j)
		all = append(all, j)
	}
	for i, j := range all {
		if i%3 == 0 {
			h.remove(j)
			h.remove(j) // twice does no harm
		}
	}
	all = slices.DeleteFunc(all, func(j *job) bool { return j.num%3 == 0 })
	slices.SortStableFunc(all, func(a, b *job) int { return int(a.at - b.at) })
	for i, want := range all {
		got := h[0]
		h.remove(got)
		if got != want {
			t.Fatalf("job %d is %d for %d; want %d for %d", i, got.num, got.at, want.num, want.at)
		}
	}
	if len(h) != 0 {
		t.Errorf("%d jobs are left", len(h))
	}
}

func TestHandleNumber(t *testing.T) {
	for handle, want := range map[string]uint64{
		"H:a:1": 1, "H:a:18446744073": 18446744073, "H:a:": 0, "H:a:01": 0, "H:a:1x": 0, "H:b:1": 0, "H:a": 0, "": 0,
		"H:a:99999999999999999999999": 0, "H:a:-1": 0,
	} {
		if got := handleNumber("H:a", []byte(handle)); got != want {
			t.Errorf("handleNumber(%q) = %d; want %d", handle, got, want)
		}
	}
}

func TestParseTimeout(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"3": 3 * time.Second, "999": 999 * time.Second, "1000": time.Second, "1500": 1500 * time.Millisecond, "0": 0, "-5": 0,
		"20\x00": 20 * time.Second,
	} {
		if got, err := parseTimeout([]byte(text)); err != nil || got != want {
			t.Errorf("parseTimeout(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	if _, err := parseTimeout([]byte("soon")); err == nil {
		t.Error("soon is no timeout")
	}
}

func TestParseCount(t *testing.T) {
	for text, want := range map[string]uint32{"": 0, "7": 7, "7\x00": 7, "50%": 50, "x": 0, "4294967295": 4294967295, "4294967296": 0, "-1": 0} {
		if got := parseCount([]byte(text)); got != want {
			t.Errorf("parseCount(%q) = %d; want %d", text, got, want)
		}
	}
}
