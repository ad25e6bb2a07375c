"""A chat: Claude and a person take turns, and the person decides when it is over.

Use it for anything with a person in the conversation. Between two turns the run is parked: it can wait in a journal for
days and go on in another process, with `resume(Chat, run_id, journal=..., answer="...")`.
"""

from fsm import Claude, Final, Human, Workflow, ask_on_terminal, run, said_is


class Chat(Workflow):
    """Talks with a person until they say /quit or stay away for a day; /recap sums up what was said."""

    answering = Claude(model="claude-sonnet-5", max_tokens=2048, system="You are a patient tutor. Be brief.")
    listening = Human(within="1d")
    recapping = Claude(
        model="claude-sonnet-5", max_tokens=1024, system="You are a patient tutor. Be brief.", prompt="Recap, please."
    )
    over = Final()

    answering.on(end_turn=listening)
    listening.on(
        said=[over.when(said_is("/quit")), recapping.when(said_is("/recap")), answering],
        expired=over,
    )
    recapping.on(end_turn=listening)


if __name__ == "__main__":
    print(run(Chat, "I would like to understand logarithms.", ask=ask_on_terminal).verdict)
