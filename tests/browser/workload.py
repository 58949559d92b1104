"""A believable evening: the test wall of a game, a browser matrix, and what ended before."""

import asyncpg

from schema.tasks import Submission

_LEVELS = [
    "combat/boss-fight", "combat/parry-window", "render/shadow-atlas", "render/particle-budget",
    "net/reconnect-after-sleep", "net/lag-compensation", "save/cloud-merge", "save/migration-v7",
    "ui/inventory-drag", "ui/photo-mode", "audio/spatial-mix", "input/gamepad-remap",
    "quest/harbour-of-glass", "quest/lantern-road", "memory/open-world-loop", "shop/refund-flow",
]  # fmt: skip
_DEVICES = ["pixel-9", "galaxy-s25", "xiaomi-15"]
_BROWSERS = ["firefox-145", "chromium-142", "webkit-26"]
_FLOWS = ["sign-up", "checkout", "search-as-you-type", "offline-cart", "share-sheet", "a11y-tree"]

NIGHTLY = "skyhold-nightly-1124"
MATRIX = "shop-web/main@4f2a91c"
AGENTS = {
    "pixel-wall-1": (4, "os=android-16,device=pixel-9,game"),
    "galaxy-wall-2": (4, "os=android-16,device=galaxy-s25,game"),
    "browser-farm-3": (3, "os=linux,browser=firefox-145,browser=chromium-142"),
}
"""Name, slots, labels."""

_PASS = r"""
say() { printf '\033[2m[%6.3f]\033[0m %b\n' "$SECONDS" "$1"; }
say '\033[1mskyhold-test\033[0m 4.2.0 on \033[36m$DEVICE\033[0m'
for step in boot login load-level warm-up measure; do
    say "\033[32m✓\033[0m $step"; sleep $PAUSE
done
say '\033[42;30m PASS \033[0m 5 steps'
"""
_FAIL = r"""
printf '\033[1mskyhold-test\033[0m 4.2.0 on \033[36m%s\033[0m\n' "$DEVICE"
for n in $(seq 1 60); do
    printf '\033[2m%05d\033[0m frame %d took \033[33m%d.%d ms\033[0m, budget 16.6 ms\n' \
        $n $n $((14 + n % 5)) $((n % 10))
done
echo 'W/Adreno  : shadow atlas is 4096x4096, falls back to 2048x2048' >&2
printf '\033[31m✗ fps-budget\033[0m: 11 of 60 frames over 16.6 ms\n'
printf '\033[41;97m FAIL \033[0m \033[1mShadowAtlasTest.budget_on_harbour_of_glass\033[0m\n'
echo 'AssertionError: p95 frame time is 18.9 ms, wanted at most 16.6 ms' >&2
echo '    at skyhold.render.ShadowAtlasTest.budget_on_harbour_of_glass(ShadowAtlasTest.kt:118)' >&2
echo '    at skyhold.wall.Runner.run(Runner.kt:57)' >&2
printf 'Artifacts: \033[4mtrace.perfetto\033[0m (18.2 MB), last-frame.png\n'
exit 1
"""
_CRASH = r"""
echo 'I/ActivityManager: Start proc 8123:com.skyhold.game/u0a231'
echo 'F/libc    : Fatal signal 11 (SIGSEGV), code 1, fault addr 0x18 in tid 8140 (RenderThread)' >&2
kill -SEGV $$
"""
_LIVE = r"""
printf '\033[1mskyhold-test\033[0m 4.2.0 on \033[36m%s\033[0m, loop of the open world\n' "$DEVICE"
for n in $(seq 1 6000); do
    printf '\033[2m%05d\033[0m heap \033[32m%d MB\033[0m, textures %d MB, frame %d.%d ms\n' \
        $n $((812 + n % 37)) $((1400 + n % 113)) $((14 + n % 3)) $((n % 10))
    [ $((n % 23)) = 0 ] && echo "W/Choreographer: skipped $((n % 7 + 1)) frames" >&2
    sleep 0.15
done
"""


def tasks() -> list[Submission]:
    """What is handed over now: some fail, some run on, some wait for what nobody has."""
    made = []
    for place, level in enumerate(_LEVELS):
        for device in _DEVICES[:2]:
            script, more = _PASS, {"PAUSE": "0.1"}
            if level == "render/shadow-atlas":
                script = _FAIL
            elif level == "net/lag-compensation" and device == "galaxy-s25":
                script = _CRASH
            elif level in {"memory/open-world-loop", "quest/lantern-road"}:
                script = _LIVE
            made.append(
                Submission(
                    command=script.strip(),
                    name=f"{level} [{device}]",
                    group=NIGHTLY,
                    needs=("game", f"device={device}"),
                    env={"DEVICE": device, **more},
                    timeout=1800,
                    max_attempts=2 if script is _CRASH else 1,
                    priority=7 if place < 4 else 5,
                )
            )
    made += [
        Submission(
            command=f"echo 'navigating to /{flow}'; sleep 0.3; echo ok",
            name=f"{flow} [{browser}]",
            group=MATRIX,
            needs=(f"browser={browser}",),
        )
        for flow in _FLOWS
        for browser in _BROWSERS
    ]
    made.append(
        Submission(
            command="exec sleep 600",
            name="record trailer in 4K",
            group=NIGHTLY,
            needs=("capture-card", "game"),
        )
    )
    return made


_HISTORY = """
INSERT INTO tasks (
    lane, priority, max_attempts, exclusive, command, name, group_name, status, attempt, day,
    submitted_at, started_at, finished_at, reason, exit_code, run_s
)
SELECT lane, 5, 1, false, 'run-test', names[1 + n % cardinality(names)],
    CASE WHEN n < 500 THEN 'skyhold-nightly-1123' WHEN n % 3 = 0 THEN 'shader-bake/android'
        ELSE 'shop-web/pull-' || 880 + n / 90 END,
    s.status, 1, (now() AT TIME ZONE 'UTC')::date, at - interval '3 min', at - interval '40 s', at,
    CASE s.status WHEN 'cancelled' THEN 'cancelled' ELSE 'exit' END,
    CASE s.status WHEN 'failed' THEN 1 WHEN 'succeeded' THEN 0 END, 5 + n % 70
FROM (SELECT id AS lane FROM lanes WHERE needs = '{history}') AS of_old,
    generate_series(0, 1400) AS n,
    LATERAL (SELECT now() - make_interval(secs =>
        3420 - n * 2.4 - 40 * sin(n / 30.0)) AS at) AS moment,
    LATERAL (SELECT CASE WHEN n % 41 = 0 OR n BETWEEN 620 AND 660 AND n % 3 = 0 THEN 'failed'
        WHEN n % 67 = 0 THEN 'cancelled' ELSE 'succeeded' END AS status) AS s
"""


async def fill_history(dsn: str) -> None:
    """Put an hour before, by SQL: nobody waits for it."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("INSERT INTO lanes (needs) VALUES ('{history}')")
        await connection.execute(
            _HISTORY.replace("names[", "($1::text[])[").replace("(names)", "($1::text[])"),
            [f"{level} [{device}]" for level in _LEVELS for device in _DEVICES],
        )
    finally:
        await connection.close()
