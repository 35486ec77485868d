package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
)

// minRounds are needed for a median to shrug off two disturbed rounds.
const minRounds = 5

// errBudget is the error of -check.
var errBudget = errors.New("a budget is not met")

type options struct {
	rounds int
	short  bool
	check  bool
	out    string
	only   *regexp.Regexp
}

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(o, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-lib:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench-lib", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 7, "measure each subject so many `times`, at least 5")
	flags.BoolVar(&o.short, "short", false, "measure little, in seconds, to see that all works; the figures mean nothing")
	flags.BoolVar(&o.check, "check", false, "fail if a budget is not met")
	flags.StringVar(&o.out, "out", "", "write the results to this `file` as JSON")
	only := flags.String("run", "", "run the benchmarks whose name matches this `pattern` only")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.rounds < minRounds {
		return o, fmt.Errorf("%d rounds are too few: at least %d", o.rounds, minRounds)
	}
	var err error
	o.only, err = regexp.Compile(*only)
	return o, err
}

// run measures, and writes tables and verdicts to w as they come.
func run(o options, w io.Writer) error {
	one := calibrate()
	fmt.Fprintf(w, "%s, GOMAXPROCS %d, %d rounds, 1 µs is a loop of %d\n",
		runtime.Version(), runtime.GOMAXPROCS(0), o.rounds, one)
	var results []result
	var verdicts []verdict
	for _, b := range benchmarks(one, o.short) {
		if !o.only.MatchString(b.name) {
			continue
		}
		s := b.run(o.rounds)
		if err := s.write(w); err != nil {
			return err
		}
		results = append(results, s...)
		verdicts = append(verdicts, judge(b, s)...)
	}
	if err := writeVerdicts(w, verdicts); err != nil {
		return err
	}
	if o.out != "" {
		if err := writeFile(o.out, results); err != nil {
			return err
		}
	}
	return o.exit(verdicts)
}

// exit returns the error to end with.
func (o options) exit(verdicts []verdict) error {
	if o.check && !allMet(verdicts) {
		return errBudget
	}
	return nil
}

// benchmarks returns all that there is to measure. The loop takes 1 µs.
func benchmarks(loop int, short bool) []benchmark {
	share := 1
	if short {
		share = 20
	}
	all := poolBenchmarks(loop, share)
	all = append(all, queueBenchmarks(share)...)
	return append(all, resourceBenchmarks(share)...)
}
