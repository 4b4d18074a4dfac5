#!/usr/bin/env bash
# Rules of the house that no compiler checks. Each failure names the file and the mend.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
failed=0

# complain RULE MEND FINDINGS
complain() {
    if [ -n "$3" ]; then
        printf '%s\n%s\n  mend: %s\n\n' "$1" "$3" "$2"
        failed=1
    fi
}

mapfile -t sources < <(git ls-files '*.rs')
mapfile -t readable < <(git ls-files '*.rs' '*.py' '*.js' '*.sh')
mapfile -t above_runtime < <(git ls-files '*.rs' | grep -vE '^(engine/src/rt/|bench/|tests/)')
mapfile -t pure < <(git ls-files 'codec/src/*.rs' 'policy/src/*.rs')

complain "Files too long for one sitting (550 lines):" "split the file by meaning" \
    "$(wc -l "${readable[@]}" | awk '$2 != "total" && $1 > 550')"
complain "Names that say nothing:" "name the idea that is missing" \
    "$(printf '%s\n' "${sources[@]}" | grep -E '(^|/)(util|utils|common|helpers|misc)(\.rs|/)')"
complain "The runtime named outside engine/src/rt/:" "reach it through crate::rt" \
    "$(grep -nE '\bmonoio::|\bio_uring::|\bepoll_(wait|ctl|create)' "${above_runtime[@]}")"
# Locks are for reading configuration, for the control thread, for what workers hand each other, and for
# ejections.
locking='(policy/src/(compile|difference|schema|yaml)/.*|engine/src/((control|demo|rt/tests)/.*'
locking+='|rt/(notify|remote)|worker/(fleet|shared)|health/(cluster|endpoint|registry)'
locking+='|stats/(mod|statuses)|uptime))\.rs'
complain "A lock where requests pass:" "keep it in the worker, or hand it over through its inbox" \
    "$(git ls-files 'codec/src/*.rs' 'policy/src/*.rs' 'engine/src/*.rs' | grep -vE "^$locking$" |
        xargs grep -nE '\b(Mutex|RwLock|Condvar|OnceLock|LazyLock)\b')"
complain "I/O, clocks or unsafe code in a pure crate:" "take it as an argument" \
    "$(grep -nE 'std::fs|net::(Tcp|Udp)|Instant::now|SystemTime::now|unsafe (\{|fn|impl)' "${pure[@]}")"
complain "A thread in a pure crate (the work of a reload alone is shared with one):" "take the work as an argument" \
    "$(printf '%s\n' "${pure[@]}" | grep -vE '^policy/src/(yaml/ahead|load)\.rs$' | xargs grep -nE 'thread::(scope|Builder|spawn)')"
complain "Left to do in the code:" "do it, or write an issue" \
    "$(grep -nE 'todo!\(|unimplemented!\(|\b(TODO|FIXME|XXX)\b' "${sources[@]}")"

exit "$failed"
