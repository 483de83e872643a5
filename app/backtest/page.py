from app.backtest.report import Report


def render(report: Report) -> str:
    return "<html></html>"
