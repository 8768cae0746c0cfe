package config

import (
	"testing"

	"wheelhouse/balancer"
)

func TestRateLimit(t *testing.T) {
	for v, want := range map[string]balancer.RateLimit{
		"100":                             {Rate: 100, Burst: 100, Key: "ip"},
		".5":                              {Rate: 0.5, Burst: 1, Key: "ip"},
		"0":                               {Rate: 0, Burst: 1, Key: "ip"},
		"2.5r/s burst=7 key=cookie:s":     {Rate: 2.5, Burst: 7, Key: "cookie:s"},
		"1e3, key=header:X-Key, burst=02": {Rate: 1000, Burst: 2, Key: "header:X-Key"},
		"1 key=host":                      {Rate: 1, Burst: 1, Key: "host"},
	} {
		var s settings
		if err := applyRateLimit(&s, v); err != nil || s.RateLimit != want {
			t.Errorf("%q: %+v, %v; want %+v", v, s.RateLimit, err, want)
		}
	}
	for _, v := range []string{
		"", ",", "x", "-1", "NaN", "Inf", "1e10", "1 burst=0", "1 burst=-1", "1 burst=x", "1 key=", "1 key=header", "1 key=header:", "1 key=ip:x", "1 key=path", "1 x=y", "1 2",
	} {
		var s settings
		if err := applyRateLimit(&s, v); err == nil {
			t.Errorf("%q was taken: %+v", v, s.RateLimit)
		}
	}
}

func FuzzRateLimit(f *testing.F) {
	for _, s := range []string{"100", "1 burst=2 key=ip", "0.1r/s key=header:X", "1e9", "nan", "1 key=cookie:a:b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, v string) {
		var s settings
		if applyRateLimit(&s, v) != nil {
			if s.RateLimit != (balancer.RateLimit{}) {
				t.Errorf("%q is wrong and has set %+v", v, s.RateLimit)
			}
			return
		}
		if r := s.RateLimit; !(r.Rate >= 0 && r.Rate <= 1e9) || r.Burst < 1 || r.Key == "" {
			t.Errorf("%q: %+v", v, r)
		}
	})
}
