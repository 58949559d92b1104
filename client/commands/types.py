"""Kinds of values on the command line."""

from datetime import datetime

import click

from client.submissions import BadInputError, moment, seconds


class _Duration(click.ParamType[float]):
    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            return seconds(str(value))
        except BadInputError as error:
            self.fail(str(error), param, ctx)


class _Moment(click.ParamType[datetime]):
    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        try:
            return moment(str(value), datetime.now().astimezone())
        except BadInputError as error:
            self.fail(str(error), param, ctx)


DURATION = _Duration()
MOMENT = _Moment()
