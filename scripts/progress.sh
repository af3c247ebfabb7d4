# One progress line instead of the raw output of apt-get and of ninja. Sourced by dev_lib.sh.
# On a terminal the line is rewritten in place; elsewhere a new one is printed every 10 seconds.
# shellcheck shell=bash

PROGRESS_EVERY_S=10
# Linking the shared library, which optimizes it as a whole, takes as long as so many other steps.
LINK_STEPS=14

# progress_start WHAT: the clock and the text of the lines that follow.
progress_start() {
  progress_what=$1 progress_since=$SECONDS progress_shown=$SECONDS progress_line=no
}

duration() {
  if [ "$1" -lt 60 ]; then echo "$1 s"; else echo "$(($1 / 60)) min $(($1 % 60)) s"; fi
}

# progress DONE TOTAL [STEPS_TO_COME [AT_ONCE]]: of them, and what they mean for the remaining time.
# AT_ONCE: steps under way at any time, of which half is done on average. The first tenth of the
# steps says little about the others, so there is no time before. Nor is there one where a step took
# below half a second: ccache had the result, which says nothing about linking.
progress() {
  local finished=$1 total=$2 elapsed=$((SECONDS - progress_since)) text
  local to_come=${3:-$((total - finished))} half=$((${4:-0} / 2))
  if [ -t 1 ]; then
    [ "$progress_line" = yes ] && [ "$SECONDS" -eq "$progress_shown" ] &&
      [ "$finished" -lt "$total" ] && return
  elif [ $((SECONDS - progress_shown)) -lt $PROGRESS_EVERY_S ]; then
    return 0
  fi
  progress_shown=$SECONDS
  text="$progress_what: $((100 * finished / total)) %"
  if [ "$((10 * finished))" -ge "$total" ] && [ "$finished" -gt 0 ] && [ "$elapsed" -ge 2 ] &&
    [ "$to_come" -gt "$half" ] && [ $((2 * elapsed * ${4:-$finished})) -ge "$finished" ]; then
    text+=", about $(duration $((elapsed * (to_come - half) / (finished + half) + 1))) left"
  fi
  if [ -t 1 ]; then
    printf '\r\033[K%s' "$text"
    progress_line=yes
  else
    echo "$text"
  fi
}

# Before other output: the line goes.
progress_clear() {
  if [ "$progress_line" = yes ]; then printf '\r\033[K'; fi
  progress_line=no
}

# progress_end FAILED: says how long it took, where that is worth a line.
progress_end() {
  local elapsed=$((SECONDS - progress_since)) end="done in"
  progress_clear
  if [ "$1" = yes ]; then end="failed after"; fi
  if [ "$elapsed" -ge 2 ]; then echo "$progress_what: $end $(duration $elapsed)"; fi
}

# show_build WHAT: reads ninja's output with NINJA_STATUS='[%f/%t] '. What compilers say is shown;
# of a command that failed, its name instead of its text.
show_build() {
  local line skip_command=no linked=yes steps=0 failed=no at_once
  at_once=$(($(nproc) + 2)) # as many as ninja runs
  progress_start "$1"
  while IFS= read -r line; do
    if [ "$skip_command" = yes ]; then
      skip_command=no
    elif [[ $line =~ ^\[([0-9]+)/([0-9]+)\]\ (.*)$ ]]; then
      steps=${BASH_REMATCH[1]}
      # 0 of 1: ninja looks whether the configuration is still right.
      if [ "$steps" -gt 0 ]; then show_step "${BASH_REMATCH[@]:1}"; fi
    elif [[ $line =~ ^FAILED:\ (.*)$ ]]; then
      failed=yes
      progress_clear
      echo "FAILED: ${BASH_REMATCH[1]}"
      skip_command=yes
    elif [[ ! $line =~ ^(--\ |ninja:\ (no\ work|Entering)) ]]; then
      if [[ $line =~ ^ninja:\ (build\ stopped|error|fatal) ]]; then failed=yes; fi
      progress_clear
      printf '%s\n' "$line"
    fi
  done
  if [ "$steps" -gt 0 ]; then progress_end $failed; else progress_clear; fi
}

# show_step DONE TOTAL TEXT: of show_build.
show_step() {
  local to_come=$(($2 - $1))
  if [ "$1" -le 1 ] && [ "$2" -gt 50 ]; then linked=no; fi
  if [[ $3 == *"Linking CXX shared library src/"* ]]; then linked=yes; fi
  if [ "$linked" = no ]; then to_come=$((to_come + LINK_STEPS)); fi
  if [ "$2" -gt 0 ]; then progress "$1" "$2" "$to_come" "$at_once"; fi
}

# show_wheel: the same of the output of `pip wheel --verbose`, which indents ninja's.
show_wheel() {
  sed -un -e 's/^  //' -e '/^\[[0-9]/,/^\*\*\* /{/^\*\*\* /!p}' | show_build "Building the wheel"
}

# show_install: reads what apt-get writes to its APT::Status-Fd, and the line "failed" if it
# failed after that.
show_install() {
  local kind _ percent failed=no
  progress_start "Downloading packages"
  while IFS=: read -r kind _ percent _; do
    if [ "$kind" = failed ]; then
      failed=yes
      break
    fi
    if [ "$kind" = pmstatus ] && [ "$progress_what" != "Installing packages" ]; then
      progress_end no
      progress_start "Installing packages"
    fi
    percent=${percent%%.*}
    progress "${percent:-0}" 100
  done
  progress_end $failed
}
